"""All rows of the attack tables, by the credential that they are about."""

import attack_algorithms
import attack_bodies
import attack_carriers
import attack_claims
import attack_encodings
import attack_issuers
import attack_keys
import attack_plan_keys
from attack import Row

TOKENS: tuple[Row, ...] = (
    *attack_algorithms.ROWS,
    *attack_keys.ROWS,
    *attack_encodings.ROWS,
    *attack_claims.ROWS,
    *attack_carriers.ROWS,
    *attack_issuers.ROWS,
)
PLAN_KEYS = attack_plan_keys.ROWS
BODIES = attack_bodies.ROWS
