"""Watches over new versions: golden sets before they serve, trials and shadows afterwards."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from models.errors import BundleError
from runtime.added_model import GoldenAsked
from runtime.deployment import Deployment
from runtime.folder import StoreFolder
from runtime.golden import GoldenRules, check
from runtime.golden_set import GoldenSet
from runtime.kinds.image_classifier import ImageClassifier
from runtime.model_set import Shadow as ShadowAsked
from runtime.shadow import Shadow, ShadowRules
from runtime.store import ModelStore
from runtime.trial import Trial, TrialRules
from runtime.watch import Watch
from server.operations.shadow_metrics import ShadowMetrics

log = logging.getLogger("snapserve")


class Guard:
    """Judges, watches and compares the versions of one process.

    Attributes:
        on_unhealthy: called with name, version and reason when a new default version fails too often.
    """

    def __init__(
        self,
        store: ModelStore,
        folder: StoreFolder | None,
        metrics: ShadowMetrics,
        counts: bool = True,
        trial: TrialRules | None = None,
    ) -> None:
        """Creates it; `begin` then watches the default versions.

        Args:
            store: of the models.
            folder: below which golden sets lie that are named.
            metrics: of shadows.
            counts: failures of the default versions, for trials to come: models may change.
            trial: when a new default version has failed.
        """
        self.on_unhealthy: Callable[[str, str, str], None] = lambda name, version, reason: None
        self._store = store
        self._folder = folder
        self._metrics = metrics
        self._counts = counts
        self._trial = trial
        self._watches: dict[str, tuple[Deployment[Any, Any], Watch]] = {}
        self._asked: dict[str, ShadowAsked] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def begin(self) -> None:
        """Watches the default versions of the start, which are on no trial."""
        for name in self._store.models if self._counts else ():
            self._attach(name, Watch())

    async def judge(self, deployment: Deployment[Any, Any], asked: GoldenAsked | None) -> None:
        """Runs the golden set of a version that was loaded, if it has one.

        Args:
            deployment: that has started.
            asked: what came with the model; None: `golden/` of its bundle, where it has one.

        Raises:
            ModelError: it fails; the message is the reason.
            UnknownModel: the folder that is asked for is not in the model store.
        """
        golden = await asyncio.to_thread(self._golden_of, deployment, asked)
        if golden is None:
            return
        report = await check(deployment, golden, _rules(asked))
        facts = deployment.model.facts
        log.info(
            "%s %s passes its golden set: %d of %d images, median %.1f ms",
            *(facts.name, facts.version, report.right, report.images, report.p50_ms),
        )

    def renew(self, name: str) -> None:
        """Watches what is now loaded of a default version, which is on no trial."""
        if self._counts:
            self._attach(name, Watch())

    def watch(self, name: str, version: str) -> None:
        """Puts a version that has become the default on trial, and has the shadow compared with it."""
        _, before = self._watches.get(name, (None, None))
        trial = Trial(self._trial, before.failure_share if before else 0.0)
        self._attach(name, Watch(trial, partial(self._unhealthy, name, version)))
        self.shadow(name, self._asked.get(name))

    def shadow(self, name: str, asked: ShadowAsked | None) -> None:
        """Begins to run a version beside the default one; None: ends that."""
        self._asked.pop(name, None)
        if name not in self._watches and asked is not None:
            self._attach(name, Watch())
        primary, watch = self._watches.get(name, (None, None))
        if watch is None or primary is None:
            return
        self._end_shadow(watch)
        deployment = self._store.loaded(name, asked.version) if asked else None
        if asked is None or deployment is None or deployment is primary:
            return
        self._asked[name] = asked
        counters = self._metrics.of(name, asked.version)
        watch.shadow = Shadow(deployment, primary, ShadowRules(asked.share), counters)

    def report(self, name: str) -> dict[str, Any]:
        """How the shadow of a model compares, in this process."""
        _, watch = self._watches.get(name, (None, None))
        return watch.report() if watch else {}

    def _attach(self, name: str, watch: Watch) -> None:
        before, old = self._watches.pop(name, (None, None))
        if before is not None and old is not None:
            before.audience = None
            self._end_shadow(old)
        deployment = self._store.loaded(name)
        if deployment is not None:  # one that is loaded on use is not watched
            deployment.audience = watch
            self._watches[name] = deployment, watch

    def _end_shadow(self, watch: Watch) -> None:
        shadow, watch.shadow = watch.shadow, None
        if shadow is not None:
            closing = asyncio.ensure_future(shadow.close())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    def _unhealthy(self, name: str, version: str, reason: str) -> None:
        self.on_unhealthy(name, version, reason)

    def _golden_of(self, deployment: Deployment[Any, Any], asked: GoldenAsked | None) -> GoldenSet | None:
        if asked and asked.folder:
            if self._folder is None:
                raise BundleError("a golden set that is named needs --model-store")
            return GoldenSet.read(self._folder.resolve(asked.folder))
        model = deployment.model
        if isinstance(model, ImageClassifier) and not model.facts.is_untried:
            found = GoldenSet.of_bundle(model.choice.bundle.file.parent)
            if found is not None or asked is None:
                return found
        if asked:
            raise BundleError(f"{model.facts.name}: its bundle has no folder golden/, and no other is named")
        return None


def _rules(asked: GoldenAsked | None) -> GoldenRules:
    if asked is None:
        return GoldenRules()
    default = GoldenRules()
    return GoldenRules(asked.least_agreement or default.least_agreement, asked.max_latency_ms or None)
