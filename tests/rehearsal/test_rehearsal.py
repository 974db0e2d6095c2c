"""A training step waits for a GPU nowhere but where `EXCEPTIONS` says, and stays on its device; no GPU is needed."""

import pytest
import torch

from tests.rehearsal.device import META, rehearsal
from tests.rehearsal.step import EXCEPTIONS, Case, as_expected, cases, rehearse


@pytest.mark.filterwarnings("ignore:RNN module weights are not part of single contiguous chunk:UserWarning")
@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_a_step_and_an_evaluation_wait_only_where_the_exceptions_say(case: Case) -> None:
    seen = rehearse(case)
    assert as_expected(case, seen), [seen.step, seen.evaluation]


def test_every_exception_is_a_case_and_says_why() -> None:
    assert EXCEPTIONS.keys() <= {case.name for case in cases()}
    assert all(len(exception.reason) > 20 for exception in EXCEPTIONS.values())


X = torch.empty(5, 3, device=META)
MASK = torch.empty(5, dtype=torch.bool, device=META)


@pytest.mark.parametrize(
    ("waiting", "what"),
    [
        (lambda: X.sum().item(), "_local_scalar_dense"),
        (lambda: bool(MASK.any()), "_local_scalar_dense"),
        (lambda: X.cpu(), "copy to the CPU"),
        (lambda: torch.ones(3).to(META), "copy to the device"),
        (lambda: torch.tensor(0.1, device=META), "tensor"),
        (lambda: X[MASK].shape == X.shape or pytest.fail("a boolean index keeps everything"), "boolean index"),
        (lambda: X.masked_select(MASK.unsqueeze(1)), "masked_select"),
        (lambda: X.__setitem__(MASK, torch.empty(5, 3, device=META)), "boolean index_put_"),
        (lambda: MASK.nonzero(), "nonzero"),
        (lambda: torch.equal(X, X), "equal"),
        (lambda: torch.bincount(MASK.long(), minlength=9), "bincount"),
        (lambda: torch.repeat_interleave(X, MASK.long(), dim=0), "repeat_interleave"),
        (lambda: MASK.long().unique(), "_unique2"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_the_rehearsal_notes_what_waits(waiting, what: str) -> None:
    with rehearsal() as notes:
        waiting()
    assert [note.split()[: len(what.split())] for note in notes.waits] == [what.split()] and not notes.mixed


@pytest.mark.parametrize(
    "at_once",
    [
        lambda: X.relu().sum(),
        lambda: torch.ones(3).to(META, non_blocking=True),
        lambda: X.masked_fill(MASK.unsqueeze(1), 0),
        lambda: X.__setitem__(MASK, 0.0),
        lambda: X + torch.tensor(2.0),
        lambda: torch.zeros(5, device=META)[torch.empty(4, dtype=torch.int64, device=META)],
        lambda: torch.ones(3).sum().item(),
        lambda: torch.ones(3)[torch.ones(3) > 0],
    ],
)
def test_it_notes_nothing_of_what_does_not_wait(at_once) -> None:
    with rehearsal() as notes:
        at_once()
    assert not notes.waits and not notes.mixed


@pytest.mark.parametrize("mixed", [lambda: X + torch.ones(5, 3), lambda: X[torch.tensor([0, 1])]])
def test_devices_that_meet_are_noted(mixed) -> None:
    with rehearsal() as notes:
        mixed()
    assert len(notes.mixed) == 1
