"""A bucket of misses for each address."""

from ingest_service.domain.link_guard import ADDRESSES_MAX, LinkGuard, name_network


class Seconds:
    now = 1000.0

    def __call__(self):
        return self.now


def test_the_bucket_empties_and_fills_again():
    seconds = Seconds()
    guard = LinkGuard(6, monotonic=seconds)
    for _ in range(6):
        assert guard.find_wait("192.0.2.1") is None
        guard.miss("192.0.2.1")

    wait_s = guard.find_wait("192.0.2.1")
    assert wait_s is not None
    assert guard.find_wait("192.0.2.2") is None
    seconds.now += wait_s
    assert guard.find_wait("192.0.2.1") is None


def test_the_addresses_of_one_ipv6_network_share_a_bucket():
    assert name_network("2001:db8:1:2::3") == name_network("2001:db8:1:2:ffff::1")
    assert name_network("2001:db8:1:2::3") != name_network("2001:db8:1:3::3")


def test_a_crowd_of_addresses_takes_no_more_memory_than_that():
    guard = LinkGuard(2)
    for number in range(ADDRESSES_MAX + 10):
        guard.miss(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")

    assert len(guard._buckets) == ADDRESSES_MAX
