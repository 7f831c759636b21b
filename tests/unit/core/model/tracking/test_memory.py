"""Which entries of memory a frame reads, on tiny entries that tell their frame."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest
import torch

from sam2vt.core.model.tracking.memory import Entry, MemoryBank, Selection, frames_read_back, merge_entries


def network(**settings):
    """What of SAM 2's network decides the choice; as the published ones unless noted."""
    published = {
        "num_maskmem": 7,
        "training": False,
        "memory_temporal_stride_for_eval": 1,
        "max_obj_ptrs_in_encoder": 16,
        "only_obj_ptrs_in_the_past_for_eval": True,
        "use_signed_tpos_enc_to_obj_ptrs": True,
    }
    return SimpleNamespace(**{**published, **settings})


def entry(frame, pointer=True):
    """One token and one pointer of one object, both the frame's number."""
    value = torch.full((1, 1, 1), float(frame))
    return Entry(value, torch.zeros(1, 1, 1), value[0] if pointer else None)


def entries(frames):
    return {frame: entry(frame) for frame in frames}


def bank_of(conditioning, others):
    bank = MemoryBank()
    for frame in (*conditioning, *others):
        bank.add(frame, entry(frame), frame in conditioning)
    return bank


def rows_and_frames(selection, frame, **settings):
    return [(row, int(each.tokens)) for row, each in selection.spatial(network(**settings), frame)]


def back_and_frames(selection, frame, num_frames, **settings):
    found = selection.pointers(network(**settings), frame, num_frames)
    return [(back, int(pointer)) for back, pointer in found]


def test_detaching_keeps_values_and_drops_the_gradient():
    tokens, pointer = torch.ones(2, 3, 4, requires_grad=True), torch.ones(3, 5, requires_grad=True)
    positions = torch.zeros(2, 1, 4)
    detached = Entry(tokens * 2, positions, pointer * 3).detached()
    assert not detached.tokens.requires_grad
    assert not detached.pointer.requires_grad
    assert detached.positions is positions
    assert torch.equal(detached.tokens, torch.full((2, 3, 4), 2.0))
    assert torch.equal(detached.pointer, torch.full((3, 5), 3.0))
    assert Entry(tokens, positions, None).detached().pointer is None


def of_objects(*objects, pointers=True):
    """Two tokens and a pointer per object: object n's are 10 n and 10 n + 1, and 100 n."""
    tens = torch.tensor(objects) * 10.0
    tokens = torch.stack([tens, tens + 1]).unsqueeze(2)
    return Entry(tokens, torch.tensor([[[5.0]], [[6.0]]]), 10 * tens.unsqueeze(1) if pointers else None)


def same(one, other):
    """Whether two entries hold the same values."""
    pairs = ((one.tokens, other.tokens), (one.positions, other.positions), (one.pointer, other.pointer))
    return all(a is b if a is None or b is None else torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("pointers", [True, False])
def test_an_entry_may_be_narrowed_to_some_of_its_objects(pointers):
    whole = of_objects(4, 5, 6, pointers=pointers)
    assert same(whole.of([2, 0]), of_objects(6, 4, pointers=pointers))
    assert same(whole.of([1]), of_objects(5, pointers=pointers))
    assert same(whole, of_objects(4, 5, 6, pointers=pointers))


@pytest.mark.parametrize("pointers", [True, False])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_one_object_of_an_entry_is_replaced(pointers, place):
    whole = of_objects(4, 5, 6, pointers=pointers)
    objects = [4, 5, 6]
    objects[place] = 9
    replaced = whole.replaced(place, of_objects(9, pointers=pointers))
    assert same(replaced, of_objects(*objects, pointers=pointers))
    # Earlier selections hold the entry as it was.
    assert same(whole, of_objects(4, 5, 6, pointers=pointers))


def test_objects_are_found_on_the_entries_own_device():
    """A default device, such as a GPU beside a model on the CPU, is not where the entries are."""
    one, two = of_objects(1), of_objects(0)
    with torch.device("meta"):
        merged = merge_entries([one, two], [1, 0])
        swapped = merged.of([1, 0])
    assert same(merged, of_objects(0, 1))
    assert same(swapped, of_objects(1, 0))


def test_the_entry_of_one_group_is_not_copied():
    alone = entry(3)
    assert merge_entries([alone], [0]) is alone


@pytest.mark.parametrize("pointers", [True, False])
def test_groups_are_merged_in_the_order_of_their_objects(pointers):
    groups = [[3, 0], [1], [2]]  # this order is not its own inverse
    merged = merge_entries([of_objects(*group, pointers=pointers) for group in groups], [3, 0, 1, 2])
    assert same(merged, of_objects(0, 1, 2, 3, pointers=pointers))


def test_conditioning_frames_are_kept_apart_and_never_forgotten():
    bank = bank_of((0, 5), (1, 2, 3, 4))
    assert (list(bank.conditioning), list(bank.others)) == ([0, 5], [1, 2, 3, 4])
    bank.forget_before(3)
    assert (list(bank.conditioning), list(bank.others)) == ([0, 5], [3, 4])


def test_what_is_forgotten_may_begin_behind_a_frame():
    bank = bank_of((0, 4), (1, 2, 3, 5, 6, 7))
    bank.forget_before(6, after=2)
    assert (list(bank.conditioning), list(bank.others)) == ([0, 4], [1, 2, 6, 7])
    bank.forget_before(2, after=0)
    assert list(bank.others) == [2, 6, 7]


def test_a_bank_is_made_of_another_with_other_frames_and_entries():
    bank = bank_of((0, 5), (1, 2))
    changed = bank.changed(lambda frame: -frame, lambda each: Entry(each.tokens + 100, each.positions, None))
    assert {f: int(each.tokens) for f, each in changed.conditioning.items()} == {0: 100, -5: 105}
    assert {f: int(each.tokens) for f, each in changed.others.items()} == {-1: 101, -2: 102}
    changed.forget_before(100)
    assert {f: int(each.tokens) for f, each in bank.conditioning.items()} == {0: 0, 5: 5}
    assert {f: int(each.tokens) for f, each in bank.others.items()} == {1: 1, 2: 2}


@pytest.mark.parametrize("pointers", [True, False])
def test_a_bank_is_restored_from_a_file_that_holds_no_classes(pointers):
    bank, file = MemoryBank(), io.BytesIO()
    for frame, conditioning in ((0, True), (7, True), (3, False)):
        bank.add(frame, of_objects(frame, frame + 1, pointers=pointers), conditioning)
    torch.save(bank.state(), file)
    file.seek(0)
    restored = bank_of((2,), (1,))
    restored.restore(torch.load(file, weights_only=True))
    assert (list(restored.conditioning), list(restored.others)) == ([0, 7], [3])
    for frame, each in {**restored.conditioning, **restored.others}.items():
        assert same(each, of_objects(frame, frame + 1, pointers=pointers))


def test_cutting_the_gradient_detaches_all_entries_of_the_bank_but_no_earlier_selection():
    bank, value = MemoryBank(), torch.ones(1, 1, 1, requires_grad=True)
    for frame, conditioning in ((0, True), (1, False), (2, False)):
        bank.add(frame, Entry(value * frame, torch.zeros(1, 1, 1), None), conditioning)
    before = bank.select(3, -1)
    bank.cut_gradient()
    after = bank.select(3, -1)
    for selection, has_gradient in ((before, True), (after, False)):
        found = {**selection.conditioning, **selection.others}
        assert {frame: each.tokens.item() for frame, each in found.items()} == {0: 0, 1: 1, 2: 2}
        assert {each.tokens.requires_grad for each in found.values()} == {has_gradient}


@pytest.mark.parametrize(
    ("most", "conditioning", "rest"),
    [(-1, [0, 3, 5, 11], []), (4, [0, 3, 5, 11], []), (2, [5, 11], [0, 3]), (3, [3, 5, 11], [0])],
)
def test_the_closest_conditioning_frames_are_chosen_and_the_rest_are_as_others(most, conditioning, rest):
    bank = bank_of((0, 3, 5, 11), (1, 2, 4, 6, 7))
    selection = bank.select(8, most)
    assert sorted(selection.conditioning) == conditioning
    assert sorted(selection.others) == sorted([*rest, 1, 2, 4, 6, 7])
    bank.forget_before(100)
    bank.add(9, entry(9), True)
    assert sorted(selection.conditioning) == conditioning
    assert sorted(selection.others) == sorted([*rest, 1, 2, 4, 6, 7])


def test_spatial_memory_is_the_conditioning_frames_and_then_the_latest_frames():
    selection = bank_of((0, 12), range(1, 9)).select(9, -1)
    latest = [(5, 3), (4, 4), (3, 5), (2, 6), (1, 7), (0, 8)]
    assert rows_and_frames(selection, 9) == [(6, 0), (6, 12), *latest]
    assert rows_and_frames(selection, 9, num_maskmem=3) == [(2, 0), (2, 12), (1, 7), (0, 8)]
    assert rows_and_frames(selection, 9, num_maskmem=1) == [(0, 0), (0, 12)]
    # Frames that are not in memory leave a gap; the others keep their codes.
    assert rows_and_frames(bank_of((0,), (1, 3)).select(4, -1), 4) == [(6, 0), (2, 1), (0, 3)]


@pytest.mark.parametrize(
    ("frame", "stride", "expected"),
    [
        # The frame before this one, then multiples of the stride that are at least two frames back.
        (12, 3, [(5, -3), (4, 0), (3, 3), (2, 6), (1, 9), (0, 11)]),
        (11, 3, [(5, -3), (4, 0), (3, 3), (2, 6), (1, 9), (0, 10)]),
        (10, 3, [(5, -6), (4, -3), (3, 0), (2, 3), (1, 6), (0, 9)]),
        (11, 2, [(5, 0), (4, 2), (3, 4), (2, 6), (1, 8), (0, 10)]),
    ],
)
def test_a_stride_thins_out_the_memory_at_evaluation_only(frame, stride, expected):
    # Others that are ahead, as conditioning frames that were not chosen may be, are not read.
    selection = Selection({}, entries(range(frame + 8)))
    expected = [(row, other) for row, other in expected if other >= 0]
    settings = {"memory_temporal_stride_for_eval": stride}
    assert rows_and_frames(selection, frame, **settings) == expected
    latest = [(back - 1, frame - back) for back in range(6, 0, -1)]
    assert rows_and_frames(selection, frame, training=True, **settings) == latest


def test_pointers_tell_how_many_frames_back_they_are():
    selection = bank_of((0, 12), (5, 6, 7, 8)).select(9, -1)
    latest = [(1, 8), (2, 7), (3, 6), (4, 5)]
    assert back_and_frames(selection, 9, 13) == [(9, 0), *latest]
    assert back_and_frames(selection, 9, 13, training=True) == [(9, 0), (-3, 12), *latest]
    ahead_too = {"only_obj_ptrs_in_the_past_for_eval": False}
    assert back_and_frames(selection, 9, 13, **ahead_too) == [(9, 0), (-3, 12), *latest]
    unsigned = {"use_signed_tpos_enc_to_obj_ptrs": False}
    assert back_and_frames(selection, 9, 13, **ahead_too, **unsigned) == [(9, 0), (3, 12), *latest]
    # A conditioning frame ahead does not end the search for others.
    assert back_and_frames(Selection(entries([12, 0, 9]), {}), 9, 13) == [(9, 0), (0, 9)]


@pytest.mark.parametrize(("num_frames", "limit", "furthest"), [(20, 4, 3), (4, 16, 3), (5, 5, 4), (20, 1, 0)])
def test_pointers_reach_back_by_the_clips_length_and_the_networks_limit(num_frames, limit, furthest):
    selection = Selection(entries([0]), entries(range(1, 30)))
    found = back_and_frames(selection, 19, num_frames, max_obj_ptrs_in_encoder=limit)
    assert found == [(19, 0), *[(back, 19 - back) for back in range(1, furthest + 1)]]


@pytest.mark.parametrize("num_maskmem", [1, 3, 7])
@pytest.mark.parametrize("limit", [1, 3, 16])
@pytest.mark.parametrize("num_frames", [3, 4, 9, 20])
@pytest.mark.parametrize("prompted_last", [False, True])
def test_the_longest_memory_of_a_clip(num_maskmem, limit, num_frames, prompted_last):
    """Against every frame of the clip; the padded memory has that length."""
    given = network(num_maskmem=num_maskmem, max_obj_ptrs_in_encoder=limit, training=True)
    conditioning = [0, num_frames - 1] if prompted_last else [0]
    reading = [frame for frame in range(num_frames) if frame not in conditioning]
    lengths = []
    for frame in reading:
        selection = Selection(entries(conditioning), entries(range(1, frame)))
        found = selection.spatial(given, frame), selection.pointers(given, frame, num_frames)
        lengths.append([len(list(each)) for each in found])
    most = [max(each) for each in zip(*lengths)]
    assert [selection.most_frames(given, num_frames), selection.most_pointers(given, num_frames)] == most


@pytest.mark.parametrize("num_maskmem", [1, 2, 3, 7])
@pytest.mark.parametrize("limit", [1, 2, 8, 16])
@pytest.mark.parametrize("stride", [1, 2, 5])
def test_what_may_be_forgotten_is_read_on_no_frame(num_maskmem, limit, stride):
    given = network(
        num_maskmem=num_maskmem, max_obj_ptrs_in_encoder=limit, memory_temporal_stride_for_eval=stride
    )
    furthest = 0
    for frame in range(60, 60 + stride):
        selection = Selection({}, entries(range(frame)))
        read = [int(each.tokens) for _, each in selection.spatial(given, frame)]
        read += [int(pointer) for _, pointer in selection.pointers(given, frame, 1000)]
        furthest = max([furthest, *(frame - other for other in read)])
    assert frames_read_back(given) == furthest
