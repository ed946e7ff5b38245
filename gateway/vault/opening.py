"""Opening a record. One that can't be opened is our trouble, never "no key registered": it is
logged as an error and answered as a dependency that is away.
"""

import logging

from gateway.errors import DependencyUnavailable
from gateway.vault.encryption import Credentials, MasterKeys, UndecryptableError
from gateway.vault.records import VaultRecord, masked

logger = logging.getLogger("gateway.vault")


def opened(master_keys: MasterKeys, record: VaultRecord) -> Credentials:
    """What the record holds. Raises DependencyUnavailable."""
    try:
        return master_keys.open(record.email, record.master_key_id, record.ciphertext)
    except UndecryptableError as error:
        logger.error(
            "vault record of %s can't be opened with master key %r: %s",
            masked(record.email),
            record.master_key_id,
            error,
        )
        raise DependencyUnavailable(reason="vault_undecryptable", retry_after=60) from None
