"""Tables of what is like what, and two stores side by side."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from click.testing import CliRunner
from scipy import stats

import actstore
from actstore import analysis
from actstore.analysis.uncertainty.sign_flips import sign_flip_p, whole_sign_p
from actstore.cli.commands import main
from actstore.errors import StoreError
from actstore.jobs.capture import capture
from actstore.spec.spec import load_spec
from actstore.store.store import Store
from actstore.tables.build import build_table
from actstore.tables.compare import Comparison, _matched
from actstore.tables.findings import Findings
from conftest import Once, WriteSpec

PLACE = ["patient", "frame", "slice"]


@pytest.fixture(scope="module")
def store(tiny_store: Path) -> Store:
    return actstore.open(tiny_store)


@pytest.fixture(scope="module")
def findings(store: Store) -> Findings:
    return Findings(store, resamples=19)


def test_similarity_has_pairs_on_the_original_then_layers_when_perturbed(store: Store, findings: Findings) -> None:
    table = findings.table("similarity")
    assert ",".join(table.columns) == (
        "layer,module,other_layer,condition,target,samples,patients,cka,rsa,p,q,tests,note"
    )
    perturbed = list(store.conditions.index[1:])
    assert table[["layer", "other_layer", "condition"]].to_numpy().tolist() == [
        ["L01", "L02", "original"],
        *([layer, layer, condition] for condition in perturbed for layer in ("L01", "L02")),
    ]
    points = analysis.embedding(store, pool="mean+max", condition=None).compute()
    sides = [points.isel(feature=points["layer"].values == layer) for layer in ("L01", "L02")]
    first = table.iloc[0]
    assert first["cka"] == pytest.approx(analysis.cka(*(side.isel(condition=0) for side in sides)), abs=1e-12)
    assert (first["samples"], first["patients"], first["note"]) == (
        len(store.samples),
        2,
        "2 patients: too few for a test",
    )
    applies = store.applicable.values.sum(axis=0)
    assert table["samples"].tolist() == [len(store.samples), *np.repeat(applies[1:], 2).tolist()]
    expected = analysis.cka(sides[1].isel(condition=0), sides[1].isel(condition=2))
    assert table["cka"].iloc[-1] == pytest.approx(expected, abs=1e-12)


def test_neighbours_are_of_other_patients_in_layers_and_pixels(store: Store, findings: Findings) -> None:
    table = findings.table("neighbours")
    assert ",".join(table.columns) == (
        "layer,module,patient,frame,slice,rank,distance,neighbour_patient,neighbour_frame,neighbour_slice"
    )
    assert table["layer"].unique().tolist() == ["L01", "L02", "pixels"]
    assert len(table) == 3 * 5 * len(store.samples)
    assert not (table["patient"] == table["neighbour_patient"]).any()
    row = table[(table["layer"] == "pixels") & (table["rank"] == 1)].iloc[7]
    places = pd.MultiIndex.from_frame(store.samples[PLACE])
    one, other = (places.get_loc(tuple(row[[f"{prefix}{name}" for name in PLACE]])) for prefix in ("", "neighbour_"))
    image = store.image.isel(condition=0).values.astype(np.float64)
    assert row["distance"] == pytest.approx(np.linalg.norm(image[one] - image[other]))
    few = build_table(store, "neighbours", layer="L02", nearest=1)
    pd.testing.assert_frame_equal(few, table[(table["layer"] == "L02") & (table["rank"] == 1)].reset_index(drop=True))


def test_projection_has_every_condition_that_applies(store: Store, findings: Findings) -> None:
    table = findings.table("projection")
    assert ",".join(table.columns) == (
        "layer,module,patient,frame,slice,condition,target,x,y,moved,method,trustworthiness,share,points"
    )
    assert len(table) == 2 * int(store.applicable.values.sum())
    assert table["trustworthiness"].between(0.5, 1).all()
    assert (table.loc[table["condition"] == "original", "moved"] == 0).all()
    own = table[(table["layer"] == "L01") & (table["condition"] == "brightness(RV, 0.1)")].iloc[0]
    points = analysis.embedding(store, "L01", "mean+max", condition=None).values
    at = int(np.flatnonzero(store.applicable.sel(condition="brightness(RV, 0.1)").values)[0])
    c = list(store.conditions.index).index("brightness(RV, 0.1)")
    assert own["moved"] == pytest.approx(np.linalg.norm(points[at, c] - points[at, 0]))


def test_options(tiny_store: Path) -> None:
    def said(*words: str) -> str:
        run = CliRunner().invoke(main, ["table", str(tiny_store), *words], catch_exceptions=False)
        assert run.exit_code in (1, 2)
        return run.output.strip().splitlines()[-1]

    assert said("projection", "--layer", "L09") == "actstore: --layer L09: there are L01, L02"
    assert "perplexity = 50 of 65 points: give at most 21" in said(
        "projection", "--method", "tsne", "--perplexity", "50", "--layer", "L01"
    )
    assert "--perplexity does not go with dice, only with projection" in said("dice", "--perplexity", "5")


class TestComparison:
    def test_a_network_is_like_itself(self, store: Store) -> None:
        found = Comparison(store, store, resamples=19)
        similarity = found.table("similarity")
        assert ",".join(similarity.columns) == "layer_a,layer_b,samples,patients,cka,rsa,p,q,tests,note"
        same = similarity[similarity["layer_a"] == similarity["layer_b"]]
        np.testing.assert_allclose(same[["cka", "rsa"]], 1, atol=1e-12)
        dice = found.table("dice")
        assert ",".join(dice.columns) == "patient,frame,slice,condition,class_name,dice_a,dice_b,difference"
        assert (dice["difference"] == 0).all()
        assert len(dice) == len(found.findings[0].table("dice"))
        frequency = found.table("frequency")
        assert frequency["store"].value_counts().nunique() == 1
        means = found.dice_mean
        expected = found.findings[0].table("dice-mean").set_index(["condition", "class_name"])["perturbed"]
        found_means = means.set_index(["condition", "class_name"])["dice_b"].reindex(expected.index)
        np.testing.assert_allclose(found_means, expected, rtol=1e-12)

    def test_samples_are_matched_by_name(self) -> None:
        rows = pd.DataFrame({"patient": ["a", "a", "b"], "frame": 1, "slice": [0, 1, 0]})
        one, other = (SimpleNamespace(samples=s, path=p) for s, p in ((rows, "one"), (rows.iloc[[2, 0, 1]], "other")))
        assert _matched(one, other).tolist() == [1, 2, 0]  # type: ignore[arg-type]

    def test_other_samples_are_refused_by_name(self, store: Store, tiny_store: Path, tmp_path: Path) -> None:
        copy = Path(shutil.copytree(tiny_store, tmp_path / "other.zarr"))
        (copy / "committed" / "c.3").unlink()
        with pytest.warns(UserWarning, match="1 of 4"):
            other = actstore.open(copy)
        gone = store.samples.iloc[len(other.samples)]
        with pytest.raises(StoreError) as refused:
            Comparison(store, other)
        text = str(refused.value)
        assert f"in {tiny_store} alone ({gone['patient']} frame {gone['frame']} slice {gone['slice']}, " in text
        assert str(copy) not in text
        assert "\n" not in text

    @pytest.mark.slow
    def test_a_page_and_a_table_are_written(self, tiny_store: Path, tmp_path: Path) -> None:
        def run(*words: str) -> Any:
            return CliRunner().invoke(main, ["compare", str(tiny_store), str(tiny_store), *words])

        page = tmp_path / "both.html"
        done = run("-o", str(page))
        assert (done.exit_code, done.output) == (0, f"comparison: {page}\n")
        text = page.read_text(encoding="utf-8")
        assert re.search(r"(L\d\d) of a and \1 of b see samples most alike \(CKA 1\.00\)", text)
        assert {path.suffix for path in (tmp_path / "both_data").iterdir()} == {".csv", ".parquet", ".png", ".svg"}
        csv = tmp_path / "dice.csv"
        assert run("--table", "dice", "-o", str(csv)).exit_code == 0
        assert len(pd.read_csv(csv)) == len(Findings(actstore.open(tiny_store)).table("dice"))
        assert run("-o", str(tmp_path / "a.csv")).exit_code == 2


class TestComparisonOfClassifiers:
    def test_a_page_and_accuracies_without_a_perturbation(self, once: Once, write_spec: WriteSpec) -> None:
        """Two networks on the same images, in blocks of other sizes."""

        def fill(folder: Path) -> None:
            from classifiers import spec_tables, write_images

            write_images(folder / "images")
            for name, group, seed in (("one", 8, 3), ("other", 5, 4)):
                (folder / name).mkdir()
                tables = spec_tables(folder / "images", images={"group": group})
                tables["model"]["arguments"] = {"seed": seed}
                summary = capture(load_spec(write_spec(folder / name, **tables)), cluster="inline", device="cpu")
                assert summary.complete, summary.failed

        folder = once("two_classifiers", fill)
        one, other = (actstore.open(folder / name / "tiny.zarr") for name in ("one", "other"))
        assert one.samples["block"].tolist() != other.samples["block"].tolist()
        found = Comparison(one, other, resamples=19)
        row = found.table("accuracy").iloc[0]
        right = [
            dict(zip(s.samples["image_name"], analysis.correct(s.confusion).values[:, 0], strict=True))
            for s in (one, other)
        ]
        a, b = (np.array([own[name] for name in sorted(own)]) for own in right)
        assert (row["a_alone"], row["b_alone"]) == (((a > b).sum()), (b > a).sum())
        assert row["p"] == pytest.approx(stats.binomtest(int((b > a).sum()), int((a != b).sum())).pvalue)
        page = folder / "both.html"
        done = CliRunner().invoke(main, ["compare", str(one.path), str(other.path), "-o", str(page)])
        assert done.exit_code == 0, done.output
        text = page.read_text(encoding="utf-8")
        assert "Which is right more often" in text
        assert "Which channels are on top" not in text
        with pytest.raises(StoreError, match="is of a classifier, which predicts no pixels"):
            found.table("dice")

    def test_names_of_other_images_are_refused_and_patients_of_either_count(self, classified_store: Path) -> None:
        one, other = actstore.open(classified_store), actstore.open(classified_store)
        other.__dict__["samples"] = one.samples.assign(patient=np.repeat(["anna", "bert", "carl"], 4))
        for both in ((one, other), (other, one)):
            assert Comparison(*both).table("accuracy")["patients"].iloc[0] == 3
        other.__dict__["samples"] = one.samples.assign(label=one.samples["label"].to_numpy()[::-1])
        with pytest.raises(StoreError, match=r"differ in their labels of 8 images, the first 'cross/004': 'cross' in"):
            Comparison(one, other)

    def test_of_two_kinds_is_refused(self, store: Store, classified_store: Path) -> None:
        with pytest.raises(StoreError, match="classifies images, the other segments"):
            Comparison(store, actstore.open(classified_store))

    def test_flipping_whole_differences_is_exact(self) -> None:
        rng = np.random.default_rng(0)
        values = rng.integers(-3, 4, 10)
        assert whole_sign_p(values) == pytest.approx(sign_flip_p(values[None].astype(float))[0])
        ones = np.repeat([1, -1, 0], [30, 12, 500])
        assert whole_sign_p(ones) == pytest.approx(stats.binomtest(12, 42).pvalue)
        assert whole_sign_p(np.zeros(5, int)) == 1


class TestFilters:
    def test_the_first_convolutions_weight_is_stored_once(self, store: Store, tiny_store: Path) -> None:
        from networks import tiny_unet

        weight = store.filters
        first = dict(tiny_unet().named_modules())[weight.attrs["module"]]
        np.testing.assert_array_equal(weight, first.weight.detach().numpy())
        plain = xr.open_zarr(tiny_store, group="filters")["weight"]
        np.testing.assert_array_equal(plain, weight)
        assert plain.dims == weight.dims
        assert plain.attrs == weight.attrs

    def test_a_store_without_says_how_to_get_them(self, tiny_copy: Path) -> None:
        from actstore import views
        from stores import edit_attributes

        edit_attributes(tiny_copy, lambda attributes: attributes.pop("filters"))
        with pytest.raises(StoreError, match=r"was captured before filters/weight was stored: capture it to another"):
            views.filters(actstore.open(tiny_copy))

    def test_damage_is_found_and_repaired(self, tiny_copy: Path, tiny_spec: Path) -> None:
        from actstore.jobs.repair import repair
        from actstore.spec.spec import load_spec
        from actstore.store.verify import verify

        (chunk,) = (tiny_copy / "filters" / "weight").glob("c.*")
        before = chunk.read_bytes()
        chunk.write_bytes(b"\0" + before[1:-1] + b"\1")
        found = verify(tiny_copy)
        assert [(one.kind, one.key) for one in found.damage] == [("coordinate", f"filters/weight/{chunk.name}")]
        repair(tiny_copy, found.damage, spec=load_spec(tiny_spec), cluster="inline", device="cpu")
        assert chunk.read_bytes() == before
        assert verify(tiny_copy).whole
