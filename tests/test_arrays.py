"""Arrays laid over buffers are those that Arrow makes itself."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiopipe.arrays import byte_array, doubles, mask_array, mask_to_numpy, place_array, text_array, valid, weave

texts = st.lists(st.text(st.characters(exclude_categories=("Cs",)), max_size=6), max_size=12)
settings.register_profile("arrays", deadline=None)  # the first pa.array may import pandas
settings.load_profile("arrays")
maybe = st.lists(st.none() | st.booleans(), max_size=40)


@given(texts)
def test_text_is_what_arrow_makes_of_it(values: list[str]):
    made = text_array(values)
    made.validate(full=True)
    assert made.equals(pa.array(values, pa.string()))


@given(st.lists(st.binary(max_size=5)))
def test_bytes_are_what_arrow_makes_of_them(values: list[bytes]):
    made = byte_array(values)
    made.validate(full=True)
    assert made.equals(pa.array(values, pa.binary()))


@pytest.mark.parametrize("value", [None, 1, b"x", True])
def test_what_is_no_text_is_refused(value: object):
    with pytest.raises(TypeError):
        text_array(["a", value])  # type: ignore[list-item]


def test_a_lone_surrogate_is_refused():
    with pytest.raises(UnicodeEncodeError):
        text_array(["a", "\ud800"])


@given(maybe, st.integers(0, 20), st.integers(0, 20))
def test_a_mask_comes_back_wherever_it_was_sliced(values: list[bool | None], start: int, size: int):
    sliced = pa.array(values, pa.bool_()).slice(start, size)
    assert mask_to_numpy(sliced).tolist() == [v is True for v in sliced.to_pylist()]
    assert valid(sliced).tolist() == [v is not None for v in sliced.to_pylist()]


@given(st.lists(st.booleans(), max_size=40), st.integers(0, 20))
def test_a_numpy_mask_goes_and_comes(values: list[bool], start: int):
    mask = np.array(values, np.bool_)
    assert mask_array(mask).to_pylist() == values
    assert mask_to_numpy(mask_array(mask).slice(start)).tolist() == values[start:]


def test_a_negative_place_takes_null():
    assert text_array(["a", "b"]).take(place_array([1, -1, 0])).to_pylist() == ["b", None, "a"]


def test_numbers_have_nan_for_null():
    assert np.isnan(doubles(pa.array([1.5, None]))).tolist() == [False, True]


@settings(max_examples=200)
@given(st.data(), st.integers(1, 4), st.integers(0, 30))
def test_lines_are_woven_of_the_same_pieces_whether_few_or_all_of_the_data_are_wanted(draw, width, gap):
    number = draw.draw(st.integers(1, 6))
    edges = np.cumsum(draw.draw(st.lists(st.integers(0, 4), min_size=2 * width * number, max_size=2 * width * number)))
    marks = edges.reshape(number, 2 * width) + gap * np.arange(number)[:, None]
    data = bytes(range(97, 123)) * (int(marks[-1, -1]) // 26 + draw.draw(st.sampled_from([1, 5, 100])))
    spans = [(marks[:, 2 * j].astype(np.int64), marks[:, 2 * j + 1].astype(np.int64)) for j in range(width)]
    others = [byte_array([b";"]), byte_array([b"%d" % i for i in range(number)])]
    order = draw.draw(st.lists(st.integers(0, width + 1), min_size=1, max_size=8))
    made = weave(data, spans, others, order)
    made.validate(full=True)

    def piece(i, chosen):
        if chosen < width:
            return data[spans[chosen][0][i] : spans[chosen][1][i]]
        return b";" if chosen == width else b"%d" % i

    assert made.to_pylist() == [b"".join(piece(i, chosen) for chosen in order) for i in range(number)]
