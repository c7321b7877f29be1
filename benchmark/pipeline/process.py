"""Decode and engine in one process, as the server runs them, without HTTP: the process that `limit` starts."""

from __future__ import annotations

import argparse
import itertools
import queue
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from models.bundles.bundle import ModelBundle
from models.engines import load_engine
from models.engines.base import Engine, EngineOptions
from models.engines.buckets import buckets_up_to
from models.images.preprocess import Pixels, Preprocessor
from models.machine.process import prepare_process

_POLL_S = 0.05  # how soon a decode thread notices that the round is over; it never waits in a round


class Pipeline:
    """Decode threads fill a bounded queue; this thread takes what waits there, as batches, to the engine."""

    def __init__(self, bundle: ModelBundle, options: EngineOptions, decode_threads: int, images: Sequence[bytes]):
        """Loads and warms up the engine on the calling thread, which has to call `measure` too."""
        self._preprocess = Preprocessor(bundle.spec.preprocess)
        self._engine: Engine = load_engine(bundle, options)
        self._engine.warm_up()
        self._decode_threads = decode_threads
        self._next = itertools.cycle(images)
        self._decoded: queue.Queue[Pixels] = queue.Queue(2 * options.max_batch_size)
        self._over = threading.Event()

    def measure(self, seconds: float, batch_size: int) -> float:
        """Images per second. What is decoded when the time is over stays for the next round."""
        self._over.clear()
        pool = [threading.Thread(target=self._decode) for _ in range(self._decode_threads)]
        for thread in pool:
            thread.start()
        began, images = time.perf_counter(), 0
        while time.perf_counter() < began + seconds:
            images += len(self._engine.infer(self._batch(batch_size)))
        elapsed = time.perf_counter() - began
        self._over.set()
        for thread in pool:
            thread.join()
        return images / elapsed

    def _decode(self) -> None:
        pixels: Pixels | None = None
        while not self._over.is_set():
            pixels = self._preprocess(next(self._next)) if pixels is None else pixels
            try:
                self._decoded.put(pixels, timeout=_POLL_S)
                pixels = None
            except queue.Full:
                continue

    def _batch(self, most: int) -> list[Pixels]:
        """What waits, as an idle engine of the server takes it at once; at least one."""
        batch = [self._decoded.get()]
        while len(batch) < most and not self._decoded.empty():
            batch.append(self._decoded.get_nowait())
        return batch

    def close(self) -> None:
        """Frees the engine."""
        self._engine.close()


def main() -> None:
    """Reads lines "SECONDS BATCH" and answers each with images per second."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--engine", default="")
    parser.add_argument("--intra-op-threads", type=int, required=True)
    parser.add_argument("--decode-threads", type=int, required=True)
    parser.add_argument("--max-batch-size", type=int, required=True)
    parser.add_argument("--image", type=Path, action="append", required=True)
    options = parser.parse_args()
    prepare_process()
    bundle = ModelBundle.load(options.model)
    bundle = bundle.with_engine(options.engine) if options.engine else bundle
    largest = options.max_batch_size
    engine = EngineOptions(
        "auto", options.intra_op_threads, max_batch_size=largest, frequent=buckets_up_to(largest)
    )
    pipeline = Pipeline(bundle, engine, options.decode_threads, [image.read_bytes() for image in options.image])
    print("ready", flush=True)
    for line in sys.stdin:
        seconds, batch_size = line.split()
        print(pipeline.measure(float(seconds), int(batch_size)), flush=True)
    pipeline.close()


if __name__ == "__main__":
    main()
