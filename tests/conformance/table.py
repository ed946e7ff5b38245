"""All rows, in the order of RESULTS.md."""

import case_answers
import case_bad_answers
import case_connection
import case_fields
import case_framing
import case_targets
from case import Case

GROUPS: dict[str, list[Case]] = {
    "Request line": case_targets.METHODS + case_targets.LINES,
    "Targets": case_targets.TARGETS,
    "Host": case_targets.HOSTS,
    "Field syntax": case_fields.SYNTAX,
    "Bounds of heads": case_fields.BOUNDS,
    "What crosses the gateway": case_fields.CROSSING,
    "Lengths": case_framing.LENGTHS,
    "Transfer codings": case_framing.CODINGS,
    "Chunks": case_framing.CHUNKS,
    "Trailers": case_framing.TRAILERS,
    "Bounds of bodies": case_framing.BODY_BOUNDS,
    "Keeping connections": case_connection.KEEPING,
    "Pipelining": case_connection.PIPELINES,
    "Expect": case_connection.EXPECTING,
    "Upgrades": case_connection.UPGRADES,
    "Answers": case_answers.CARRIED,
    "Answers that break off": case_bad_answers.CUT,
    "Bad answers": case_bad_answers.BAD,
}
CASES = [case for group in GROUPS.values() for case in group]
