"""Incidents of other systems: what happened there does not happen here, or is seen at once.

The table of all of them is in docs/incidents.md.
"""

import hashlib

import pytest

from ingest_service.errors import AnnouncementConflict
from tests.actions.engine import cut_chunks, describe_recording, get_clip, make_footage


async def bring_in(service, data, **announced):
    clip = (await service.announce(describe_recording(data, **announced))).clip
    for index, chunk in enumerate(cut_chunks(data)):
        await service.store(clip.clip_id, index, chunk)
    await service.seal(clip.clip_id)
    return clip


async def test_a_resumable_s3_upload_answered_2xx_with_a_truncated_object(
    service, ledger, vault, footage
):
    """An incident elsewhere: resumable S3 uploads answered 2xx with a truncated object."""
    announced = await bring_in(service, footage)
    sealed = await get_clip(ledger, announced.clip_id)
    vault.tamper(sealed.object_key, footage[:-1])

    await service.read_back(sealed.clip_id)

    clip = await get_clip(ledger, sealed.clip_id)
    assert (clip.state, clip.secured_at, clip.released_at) == ("quarantined", None, None)
    assert clip.quarantine_reason == "111 bytes are stored, 112 were received"


async def test_an_edited_clip_of_a_camera_is_seen_by_its_digest(service, ledger, footage):
    """An incident elsewhere: cameras whose clips could be edited and re-uploaded unseen."""
    digest = hashlib.sha256(footage).hexdigest()
    edited = make_footage(112, "edited")
    clip = await bring_in(service, edited, sha256_device=digest)

    await service.read_back(clip.clip_id)

    kept = await get_clip(ledger, clip.clip_id)
    assert (kept.state, kept.sha256_device.hex()) == ("quarantined", digest)


async def test_an_edited_clip_does_not_take_the_place_of_the_one_that_came_before(
    service, ledger, footage
):
    """An incident elsewhere: cameras whose clips could be edited and re-uploaded unseen."""
    edited = make_footage(112, "edited")
    original = describe_recording(footage, sha256_device=hashlib.sha256(footage).hexdigest())
    clip = await bring_in(service, footage, **original)
    await service.read_back(clip.clip_id)
    before = await get_clip(ledger, clip.clip_id)

    with pytest.raises(AnnouncementConflict):
        await service.announce(original, sha256_device=hashlib.sha256(edited).hexdigest())

    assert await get_clip(ledger, clip.clip_id) == before
