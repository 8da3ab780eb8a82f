"""The weights that ship: small, of this version, and as good as their record says."""

import json

import numpy as np
import pytest

from topoformer import net
from topoformer.net.features import VERSION
from topoformer.net.stored import FOLDER, WeightsError, about, load_encoder
from topoformer.net.validate import examples

LIMIT = 8 << 20


def test_weights_are_small():
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < LIMIT


@pytest.mark.parametrize("decoder", ["dynamic", "static"])
def test_recorded_scores_come_out_again(decoder):
    encoder = net.encoder(decoder)
    recorded = about(decoder)["examples"]
    found = examples(lambda items: [encoder(x.features, x.relation) for x in items])
    for name in ("greedy", "best of 64"):
        ratio = np.mean([f[name] / r[name] for f, r in zip(found, recorded, strict=True)])
        assert ratio == pytest.approx(1.0, abs=0.005)  # other processors round otherwise, and a tie may fall otherwise


@pytest.mark.parametrize("decoder", ["dynamic", "static"])
def test_the_record_says_how_the_weights_were_made(decoder):
    record = about(decoder)
    assert record["arguments"]["decoder"] == decoder
    assert {"stages", "hardware", "commit", "validation"} <= set(record)
    for stage in record["stages"]:
        assert stage["data"]["unlabelled_from"] > stage["data"].get("labelled_from", 1_000_000) - 1 >= 999_999


def test_another_version_is_refused_by_name(tmp_path):
    (tmp_path / "dynamic.json").write_text(json.dumps(about() | {"feature_version": 99}))
    with pytest.raises(WeightsError, match=rf"features of version 99, this is version {VERSION}"):
        load_encoder(folder=tmp_path)
    (tmp_path / "dynamic.json").write_text("{}")
    with pytest.raises(WeightsError, match=r"must have format 'topoformer\.weights'"):
        load_encoder(folder=tmp_path)
    with pytest.raises(WeightsError, match="no weights"):
        load_encoder("static", tmp_path)
    with pytest.raises(ValueError, match="decoder"):
        load_encoder("statik")
