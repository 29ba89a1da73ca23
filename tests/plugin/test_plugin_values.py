"""Values and differences of the plugin plumbing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from pulumi.provider.experimental.property_value import PropertyValue
from pulumi.provider.experimental.provider import PropertyDiffKind

from dr.errors import Refused
from dr.plugin.differences import difference
from dr.plugin.failures import one_line
from dr.plugin.values import UNKNOWN, has_unknown, unwrap, unwrap_all, wrap, wrap_all

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(PLAIN)
def test_plain_values_come_back_as_they_were(value: object) -> None:
    assert unwrap(wrap(value)) == value


def test_whole_numbers_are_integers_again() -> None:
    assert isinstance(unwrap(PropertyValue(5.0)), int)
    assert unwrap(PropertyValue(5.5)) == 5.5


def test_secrets_are_marked_and_none_is_left_out() -> None:
    wrapped = wrap_all({"key": "x", "open": "y", "nothing": None}, secrets=["key"])
    assert wrapped["key"].is_secret
    assert not wrapped["open"].is_secret
    assert unwrap_all(wrapped) == {"key": "x", "open": "y"}


def test_an_unknown_is_found_anywhere() -> None:
    assert has_unknown({"a": [{"b": UNKNOWN}]})
    assert not has_unknown({"a": [{"b": "c"}]})


def test_equal_inputs_differ_in_nothing() -> None:
    found = difference({"a": {"b": [1]}}, {"a": {"b": [1]}}, replacing=("a",))
    assert found.changes is False
    assert not found.detailed_diff


def test_a_difference_names_leaves_and_replaces_below_a_path() -> None:
    old = {"name": "a", "tags": {"x": "1"}, "rules": [{"port": 1}]}
    new = {"name": "b", "tags": {"x": "2", "y": "3"}, "rules": [{"port": 2}, {"port": 3}]}
    found = difference(old, new, replacing=("name",), delete_before_replace=True)
    assert found.changes is True
    assert found.replaces == ["name"]
    assert found.delete_before_replace
    kinds = {path: diff.kind for path, diff in found.detailed_diff.items()}
    assert kinds == {
        "name": PropertyDiffKind.UPDATE_REPLACE,
        "tags.x": PropertyDiffKind.UPDATE,
        "tags.y": PropertyDiffKind.ADD,
        "rules[0].port": PropertyDiffKind.UPDATE,
        "rules[1]": PropertyDiffKind.ADD,
    }


def test_ignored_and_internal_paths_do_not_count() -> None:
    found = difference({"tags": {"x": "1"}}, {"tags": {"x": "2"}, "__defaults": []}, ignore=("tags",))
    assert found.changes is False


def test_nothing_is_deleted_first_when_nothing_is_replaced() -> None:
    assert not difference({"a": 1}, {"a": 2}, delete_before_replace=True).delete_before_replace


def test_an_error_is_one_line_with_its_remedy() -> None:
    assert one_line(Refused("no", remedy="ask")) == "no (remedy: ask)"
    assert one_line(KeyError("x")) == "unexpected KeyError: 'x'"
    assert one_line(Refused("a server's \x1b]0;words\x07 \udcff")) == "a server's �]0;words� �"
