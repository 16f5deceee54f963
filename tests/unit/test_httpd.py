"""Which connection gives way to a new one."""

from hypothesis import given
from hypothesis import strategies as st

from hyperpod_ebs.driver.observe.httpd import MAX_CONNECTIONS, MAX_CONNECTIONS_OF_PEER, connection_to_drop


def test_the_limits_are_those_of_the_decision() -> None:
    """docs/decisions/0039."""
    assert (MAX_CONNECTIONS, MAX_CONNECTIONS_OF_PEER) == (64, 16)


def test_a_new_connection_of_a_peer_with_too_many_replaces_its_oldest() -> None:
    peers = ["a", "b", *["a"] * 15]

    assert connection_to_drop(peers, "a") == 0
    assert connection_to_drop(peers, "b") is None


def test_if_there_are_too_many_the_oldest_of_the_greediest_peer_gives_way() -> None:
    peers = ["kubelet", *["a"] * 10, *["b"] * 12, *[f"c{number}" for number in range(41)]]
    assert len(peers) == 64

    assert connection_to_drop(peers, "new") == 11


@given(st.lists(st.tuples(st.integers(0, 70), st.just(None)), max_size=300))
def test_the_limits_hold_and_a_lone_connection_outlives_those_of_greedier_peers(
    arriving: list[tuple[int, None]],
) -> None:
    """CWE-400: a pod cannot take the place of kubelet's only connection with connections of its own."""
    peers = ["kubelet"]
    for number, _ in arriving:
        peer = f"pod-{number}"
        if (index := connection_to_drop(peers, peer)) is not None:
            assert peers[index] != "kubelet" or len(set(peers)) == len(peers)
            del peers[index]
        peers.append(peer)

        assert len(peers) <= 64
        assert max(peers.count(other) for other in peers) <= 16
