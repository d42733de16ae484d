"""Layers with room for more tokens hold what transformers' own hold, whatever is done with them."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.cache_utils import DynamicLayer

from arguide.text.caches import ROOM, RoomyLayer

OPERATIONS = ("token", "tokens", "crop", "reorder", "repeat", "select", "reset")


def act(layer, operation, seed):
    """Do one thing with a layer, the same with the same seed."""
    torch.manual_seed(seed)
    n = 3 if layer.get_seq_length() == 0 else len(layer.keys)
    if operation in ("token", "tokens"):
        new = torch.randn(2, n, 2, 1 if operation == "token" else ROOM - 3, 4)
        assert all(torch.equal(a, b) for a, b in zip(layer.update(*new), (layer.keys, layer.values), strict=True))
    elif operation == "crop":
        if (tokens := min(2, layer.get_seq_length() - 1)) > 0:
            layer.crop(-tokens)
    elif operation == "reorder":
        layer.reorder_cache(torch.randint(n, (n,)))
    elif operation == "repeat":
        layer.batch_repeat_interleave(2 if n < 20 else 1)
    elif operation == "select":
        layer.batch_select_indices(torch.arange(n)[: max(1, n - 1)])
    else:
        layer.reset()


@given(st.lists(st.sampled_from(OPERATIONS), min_size=1, max_size=12))
@settings(max_examples=60, deadline=None)
def test_a_layer_with_room_holds_what_transformers_own_holds(operations):
    roomy, plain = RoomyLayer(), DynamicLayer()
    for seed, operation in enumerate(operations):
        for layer in (roomy, plain):
            act(layer, operation, seed)
        assert roomy.get_seq_length() == plain.get_seq_length()
        if plain.get_seq_length():
            assert torch.equal(roomy.keys, plain.keys)
            assert torch.equal(roomy.values, plain.values)


def test_a_token_is_written_and_nothing_copied():
    layer = RoomyLayer()
    for _ in range(3):
        act(layer, "token", 0)
    where = layer.keys.data_ptr()
    act(layer, "token", 1)
    assert layer.keys.data_ptr() == where
    for seed in range(ROOM):
        act(layer, "token", seed)
    assert layer.keys.data_ptr() != where


def test_what_was_copied_out_is_not_written_into():
    """Rows that others go on from: a reordered layer leaves the keys it came from alone."""
    layer = RoomyLayer()
    for seed in range(2):
        act(layer, "token", seed)
    before = layer.keys.clone()
    held = layer.keys
    layer.reorder_cache(torch.tensor([2, 0, 0]))
    act(layer, "token", 5)
    assert torch.equal(held, before)
