import pytest
import torch
from torch import nn

from models.errors import ModelError
from models.networks.graph import ServingGraph, build_graph, trace_or_script
from tests.models.small import SPEC, random_weights

PIXELS = torch.randint(0, 256, (5, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))


class Branching(nn.Module):
    """Its control flow depends on the image's brightness: a trace records one branch only."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3, 4)

    def forward(self, x):
        features = x.mean(dim=[2, 3])
        if bool(features.mean() > 0):
            features = -features
        return self.head(features)


class FixedBatch(nn.Module):
    """Its trace remembers the number of images that it was recorded with."""

    def forward(self, x):
        return x.mean(dim=[2, 3]).reshape(int(x.shape[0]), 3)


class Unscriptable(Branching):
    def forward(self, x, *args, **kwargs):
        return super().forward(x)


def graph_of(network):
    return ServingGraph(network, SPEC).eval()


def example(rows=2):
    return torch.zeros(rows, 64, 64, 3, dtype=torch.uint8)


def answers(graph):
    with torch.inference_mode():
        return graph(PIXELS)


def test_the_serving_graph_is_torchvisions_normalisation_and_softmax(tmp_path):
    weights = random_weights(tmp_path)
    graph = build_graph(weights.network(), SPEC, "fp32", torch.device("cpu"), channels_last=True)
    with torch.inference_mode():
        expected = weights.reference_network()(weights.reference_input(PIXELS)).softmax(dim=1)
    torch.testing.assert_close(answers(graph), expected, rtol=1e-5, atol=1e-7)


def test_a_plain_network_is_traced_and_answers_alike_at_other_batch_sizes(tmp_path):
    graph = graph_of(random_weights(tmp_path).network())
    compiled, how = trace_or_script(graph, example())
    assert how == "traced"
    torch.testing.assert_close(answers(compiled), answers(graph))


def test_control_flow_is_scripted():
    graph = graph_of(Branching())
    compiled, how = trace_or_script(graph, example())
    assert how == "scripted"
    torch.testing.assert_close(answers(compiled), answers(graph))


def test_a_trace_that_remembers_its_batch_size_is_not_used():
    graph = graph_of(FixedBatch())
    compiled, how = trace_or_script(graph, example())
    assert answers(compiled).shape == (5, 3)
    assert how in ("traced", "scripted")


def test_what_can_neither_be_traced_nor_scripted_is_refused():
    with pytest.raises(ModelError, match="neither tracing nor scripting"):
        trace_or_script(graph_of(Unscriptable()), example())


def test_half_precision_runs_on_a_cpu_and_stays_close(tmp_path):
    weights = random_weights(tmp_path)
    half = build_graph(weights.network(), SPEC, "fp16", torch.device("cpu"), channels_last=True)
    compiled, _ = trace_or_script(half, example())
    actual, expected = answers(compiled), answers(graph_of(weights.network()))
    assert actual.dtype == torch.float32
    assert 0 < (actual - expected).abs().max() < 5e-3


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_rounding_in_half_precision_is_not_taken_for_another_answer(imagenet, precision):
    """Folding the batch norms of a trained network changes a score of noise by up to a tenth."""
    graph = build_graph(
        imagenet.network(), imagenet.preprocess, precision, torch.device("cpu"), channels_last=True
    )
    pixels = torch.zeros(2, 224, 224, 3, dtype=torch.uint8)
    compiled, how = trace_or_script(graph, pixels)
    assert how == "traced"
    with torch.inference_mode():
        torch.testing.assert_close(compiled(pixels), graph(pixels), rtol=0, atol=0.05)
