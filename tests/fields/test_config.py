"""Settings of the decoder: read as they were written, refused by name."""

from __future__ import annotations

import json

import pytest

from graphpose.errors import GraphposeError
from graphpose.fields.config import DecoderConfig


@pytest.mark.parametrize("join_fragments", [None, False, True])
def test_settings_are_read_as_they_were_written(tmp_path, join_fragments):
    config = DecoderConfig(join_fragments=join_fragments, radius=3.0, max_poses=7, use_spread=True)
    config.write(tmp_path / "decoder.json")
    assert DecoderConfig.read(tmp_path / "decoder.json") == config
    assert ("join_fragments" in json.loads((tmp_path / "decoder.json").read_text())) == (join_fragments is not None)
    with pytest.raises(GraphposeError, match="could not be written"):
        config.write(tmp_path / "nowhere" / "decoder.json")


def test_settings_that_are_left_out_have_their_defaults():
    assert DecoderConfig.from_dict({}) == DecoderConfig()
    assert DecoderConfig.from_dict({"radius": 2}) == DecoderConfig(radius=2)


def test_thresholds_that_came_later_have_in_older_files_the_values_they_had_then():
    written_before = DecoderConfig().to_dict()
    later = {name: written_before.pop(name) for name in ("straggler_share", "straggler_reach", "max_copies")}
    assert later == {"straggler_share": 0.2, "straggler_reach": 2.0, "max_copies": 4}
    assert DecoderConfig.from_dict(written_before) == DecoderConfig()


def test_an_unknown_decoder_setting_is_named():
    with pytest.raises(GraphposeError, match="unknown decoder setting 'raduis'; did you mean 'radius'"):
        DecoderConfig.from_dict({"raduis": 1})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"raduis": 2}', "unknown decoder setting 'raduis'; did you mean 'radius'"),
        ('{"radius": "2"}', "radius='2' must be of type float"),
        ('{"radius": true}', "radius=True must be of type float"),
        ('{"max_poses": 2.5}', r"max_poses=2\.5 must be of type int"),
        ('{"max_copies": 0}', "max_copies=0 must be 1 or more"),
        ('{"radius_min": 0}', "radius_min=0 must be above 0"),
        ("[1]", "must be a JSON object"),
        ("{", "are not JSON"),
        (None, "cannot be read"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused_by_name(tmp_path, text, message):
    path = tmp_path / "own.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(GraphposeError, match=rf"own\.json'.*{message}"):
        DecoderConfig.read(path)
