"""Problem details: text of a request is in them as text, on one line of ASCII."""

import json

from hostile import NAMES
from tokenyield_collector.errors import LedgerError, ParameterError
from tokenyield_collector.http.problem import problem, problem_of
from tokenyield_wire.window import Fault


def test_no_text_of_a_request_acts_in_a_problem() -> None:
    for name in NAMES:
        answers = [
            problem(422, f"batches of {name}", faults=[Fault(name, name, name)]),
            problem_of(ParameterError(name, expected="a column", found=f"'{name}'", fix=name)),
            problem_of(LedgerError(name)),
        ]
        for answer in answers:
            assert answer.text is not None
            assert answer.text.isascii()
            assert answer.text.isprintable()
            assert name in json.loads(answer.text)["detail"]
            assert answer.content_type == "application/problem+json"
