"""Options: documented, bounded, frozen, and the same after a round trip through JSON."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from tomodrgn.config import LinearConfig, PreprocessConfig, TrainConfig, VaeConfig

CONFIGS = [PreprocessConfig, VaeConfig, LinearConfig, TrainConfig]


@pytest.mark.parametrize("kind", CONFIGS)
def test_every_option_has_a_default_and_help(kind):
    assert kind()
    for name, field in kind.model_fields.items():
        assert field.description, name
        assert field.description[0].isupper(), name
        assert field.description.endswith("."), name
        assert not field.is_required(), name


@pytest.mark.parametrize("kind", CONFIGS)
def test_every_number_has_a_range(kind):
    for name, schema in kind.model_json_schema()["properties"].items():
        for part in schema.get("anyOf", [schema]):
            if part.get("type") in ("integer", "number"):
                assert {"minimum", "exclusiveMinimum"} & part.keys(), name


@pytest.mark.parametrize("kind", CONFIGS)
def test_defaults_obey_their_own_ranges(kind):
    assert kind.model_validate(kind().model_dump()) == kind()


@pytest.mark.parametrize(
    "config",
    [
        PreprocessConfig(window=False, max_radius=0.25, window_inner=0.5, window_outer=0.5),
        VaeConfig(z_dim=0, pooling="max", encoder_frame="image", n_frequencies=64),
        LinearConfig(n_components=3, component_mask="sphere", memory_gib=0.5),
        TrainConfig(learning_rate=1e-5, beta=0.0, tilts_per_particle=20, seed=7, precision="32-true"),
    ],
)
def test_json_round_trip(config):
    text = config.model_dump_json()
    assert type(config).model_validate_json(text) == config
    assert type(config)() != config


@pytest.mark.parametrize(
    ("kind", "options", "option"),
    [
        (PreprocessConfig, {"max_radius": 0.6}, "max_radius"),
        (PreprocessConfig, {"max_radius": 0.0}, "max_radius"),
        (PreprocessConfig, {"window_inner": 0.95}, "window_outer"),
        (PreprocessConfig, {"window_outer": 0.7}, "window_outer"),
        (VaeConfig, {"z_dim": -1}, "z_dim"),
        (VaeConfig, {"z_dim": 2.5}, "z_dim"),
        (VaeConfig, {"pooling": "middle"}, "pooling"),
        (VaeConfig, {"particle_radius": 1.2}, "particle_radius"),
        (TrainConfig, {"epochs": 0}, "epochs"),
        (TrainConfig, {"batch_size": 0}, "batch_size"),
        (TrainConfig, {"learning_rate": 0.0}, "learning_rate"),
        (TrainConfig, {"tilts_per_particle": 0}, "tilts_per_particle"),
        (TrainConfig, {"seed": -1}, "seed"),
        (TrainConfig, {"epoch": 3}, "epoch"),
    ],
)
def test_wrong_options_are_refused_by_name(kind, options, option):
    with pytest.raises(ValidationError) as caught:
        kind(**options)
    assert [error["loc"] for error in caught.value.errors()] == [(option,)]


def test_window_that_ends_before_it_begins_is_refused_with_both_numbers():
    with pytest.raises(ValidationError, match=r"Got 0\.7, expected at least window_inner, 0\.8"):
        PreprocessConfig(window_outer=0.7)
    with pytest.raises(ValidationError, match=r"Got 0\.9, expected at least window_inner, 1\.0"):
        PreprocessConfig(window_inner=1.0)


@pytest.mark.parametrize("kind", CONFIGS)
def test_configurations_cannot_be_changed(kind):
    config = kind()
    name = next(iter(kind.model_fields))
    with pytest.raises(ValidationError, match="frozen"):
        setattr(config, name, getattr(config, name))


def test_options_of_the_three_never_share_a_name():
    """One command line and one form hold them all."""
    names = [name for kind in CONFIGS for name in kind.model_fields]
    assert len(set(names)) == len(names)
