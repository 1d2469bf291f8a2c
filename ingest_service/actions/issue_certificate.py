"""Issue the certificate of an erasure: provable, and without anything of what was erased."""

from ingest_service.actions.prove_log import PublishedHead, find_proof
from ingest_service.domain.clip import Clip
from ingest_service.domain.receipt import ERASED_TYPE, certified_message, make_receipt
from ingest_service.errors import CertificateNotFound
from ingest_service.ledger import log
from ingest_service.ledger.connection import Pool, reading
from ingest_service.signer import Signer
from schemas.certificate import ErasureCertificate


async def issue_certificate(
    clip: Clip, *, pool: Pool, signer: Signer, head: PublishedHead
) -> ErasureCertificate | None:
    """Return the certificate of an erased clip; None while its proof is not published yet.

    Raises:
        CertificateNotFound: the clip was not erased.
        LogForked: the ledger does not hold what was signed; nothing is issued.
    """
    if clip.state != "erased":
        raise CertificateNotFound(str(clip.clip_id), clip.state)
    async with reading(pool) as connection:
        erased = await log.find_clip_leaf(connection, clip.clip_id, ERASED_TYPE)
        if erased is None or erased.leaf_index is None:
            return None
        proof = await find_proof(
            connection,
            erased.leaf,
            erased.leaf_index,
            head=head,
            verifier_key=signer.verifier_key,
        )
    if proof is None:
        return None
    made = make_receipt(
        erased.leaf,
        erased.leaf_index,
        proof,
        signer_name=signer.name,
        key_id=signer.key_id,
        signature=signer.sign(certified_message(erased.leaf)),
    )
    return ErasureCertificate(**made.model_dump())
