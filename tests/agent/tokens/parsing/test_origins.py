"""What of the text before a line names a sender."""

import pytest

from tokenyield_agent.tokens.parsing.origins import sender_of


@pytest.mark.parametrize(
    ("one", "later"),
    [
        (b"", b""),
        (b"0.04.153.246 I ", b"0.05.000.001 W "),
        (b"2026-05-16T22:30:40.722000000Z ", b"2026-05-16T22:30:41.1Z "),
        (b"2026-05-16T22:30:40+02:00 ", b"2026-05-17T22:30:40+02:00 "),
        (b"2026-05-16 22:30:44.722 | ", b"2026-05-17 22:30:45.722 | "),
        (b"[2026-05-16 22:30:44] ", b"[2026-05-17 22:30:45] "),
        (b"[ 1234.567890] ", b"[12345.567890] "),
        (b"1779264164792\t", b"1779264164793\t"),
    ],
)
def test_times_and_levels_name_none(one: bytes, later: bytes) -> None:
    assert sender_of(one) == sender_of(later) == ""


@pytest.mark.parametrize(
    ("one", "later", "other"),
    [
        (b"llm-1  | ", b"llm-1  | ", b"llm-2  | "),
        (b"[40001] 0.10.000.001 I ", b"[40001] 0.11.000.001 W ", b"[40002] 0.10.000.001 I "),
        (b"[pod/lmd-0/server] ", b"[pod/lmd-0/server] ", b"[pod/lmd-1/server] "),
        (b"Nov 23 12:00:00 host vllm[77]: ", b"Dec  1 00:00:01 host vllm[77]: ", b"Nov 23 12:00:00 host vllm[78]: "),
    ],
)
def test_a_sender_keeps_its_name_and_another_has_another(one: bytes, later: bytes, other: bytes) -> None:
    assert sender_of(one) == sender_of(later) != sender_of(other)
    assert b"host" not in sender_of(one).encode()
