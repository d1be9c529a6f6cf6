"""Every property of a setup, proven or refuted, one line each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from mtlbench.check import outcomes
from mtlbench.check.outcomes import Outcome
from mtlbench.check.setup import data, tasks
from mtlbench.check.setup.subject import SetupSubject

READ, INPUTS, TARGETS = (
    "samples() and test() give the same splits whenever they are read",
    "inputs are [N, F] and finite, F being what the network is given",
    "targets are [N, T], of the values that each task takes",
)
SETUP_PROPERTIES: dict[str, Callable[[SetupSubject], str | None]] = {
    "about and the file's docstring say what it is": data.says_what_it_is,
    READ: data.reads_the_same,
    INPUTS: data.inputs_fit,
    TARGETS: data.targets_fit,
    "training_size is that of the training split": data.size_is_right,
    "splits do not share samples": data.splits_are_apart,
    "losses and scores are finite means over the batch, one per replica": tasks.means_per_replica,
    "each loss has a gradient": tasks.losses_have_gradients,
    "perfect outputs have the lower loss and the better score": tasks.perfect_is_better,
    "a step runs on meta": tasks.runs_on_meta,
    "a short training lowers the training loss": tasks.training_lowers_the_loss,
}
_NEEDED = {READ: "the splits cannot be read", INPUTS: "the inputs do not fit", TARGETS: "the targets do not fit"}


def check_setup(subject: SetupSubject) -> Iterator[Outcome]:
    """Try every property; what needs splits that fit is not tried without them."""
    proofs = {title: partial(prove, subject) for title, prove in SETUP_PROPERTIES.items()}
    return outcomes.tried(proofs, subject.file, _NEEDED)


def setup_failures(subject: SetupSubject) -> list[str]:
    """The lines of what fails or could not be tried; none, if the setup can be trained on."""
    return outcomes.broken(check_setup(subject))
