"""The job of interventions: its groups, its numbers, resumption, and what it refuses."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import actstore
from actstore.analysis.patches import owned_boxes
from actstore.cli.commands import main
from actstore.errors import ActstoreError, SpecError, StoreError
from actstore.jobs.edited_passes import EditedSample
from actstore.jobs.intervene import intervene
from actstore.jobs.plan.intervene import plan_intervene
from actstore.jobs.predictions import confusion_of
from actstore.jobs.repair import repair
from actstore.networks.model import build_model
from actstore.spec.spec import load_spec
from actstore.store.verify import verify
from conftest import WriteSpec
from stores import files_of

CONDITION = "brightness(LV, 0.1)"
OTHER = "brightness(RV, 0.1)"
RESTORE: dict[str, Any] = {"name": "restore", "edit": "patch", "into": [CONDITION]}
EACH: dict[str, Any] = {"name": "each", "edit": "zero"}
BY_EFFECT = {"name": "more", "edit": "zero", "channels": "cumulative", "orders": ["effect"], "effect_of": "each"}


def intervened(
    folder: Path, write_spec: WriteSpec, store: Path, interventions: list[dict[str, Any]], **more: Any
) -> actstore.Store:
    """The store with interventions, made in this process."""
    spec = load_spec(write_spec(folder, store__path=store, intervene=interventions, **more))
    found = intervene(spec, cluster="inline", device="cpu")
    assert found[-1].complete, found[-1].failed
    return actstore.open(store)


@pytest.fixture
def restored(tiny_copy: Path, tmp_path: Path, write_spec: WriteSpec) -> actstore.Store:
    return intervened(tmp_path, write_spec, tiny_copy, [{**RESTORE, "into": [CONDITION, OTHER]}])


def test_groups_hold_what_they_say(restored: actstore.Store) -> None:
    group = restored.group("interventions/restore").load()
    assert group["confusion"].dims == ("sample", "condition", "edit", "true_class", "predicted_class")
    assert group["edit"].values.tolist() == ["L01:0", "L01:1", "L02:0", "L02:1", "L02:2", "L02:3"]
    assert group["layer"].values.tolist() == ["L01"] * 2 + ["L02"] * 4
    assert group["module"].values.tolist() == ["down.1"] * 2 + ["bottom.1"] * 4
    assert group["chosen"].dims == ("condition", "edit", "channel")
    assert group["chosen"].values.sum((1, 2)).tolist() == [6, 6]
    applicable = restored.applicable.sel(condition=[CONDITION, OTHER]).values
    assert (group["edited"].values == applicable).all()
    pixels = restored.confusion.isel(condition=0).sum(("true_class", "predicted_class")).values
    counted = group["confusion"].sum(("true_class", "predicted_class")).values
    assert (counted == pixels[:, None, None] * applicable[..., None]).all()


def test_numbers_are_those_of_a_hook_written_by_hand(restored: actstore.Store, tmp_path: Path) -> None:
    group = restored.group("interventions/restore").load()
    model = build_model(load_spec(tmp_path / "spec.toml"))
    sample = int(np.flatnonzero(group["edited"].sel(condition=CONDITION).values)[3])
    image = torch.from_numpy(restored.image.isel(sample=[sample]).sel(condition=CONDITION).values)
    original = torch.from_numpy(restored["L02"].isel(sample=sample, condition=0).values)

    def hook(_module: Any, _given: Any, output: Any) -> Any:
        output = output.clone()
        output[0, 2] = original[2]
        return output

    handle = model.get_submodule("bottom.1").register_forward_hook(hook)
    with torch.no_grad():
        predicted = model(image).argmax(1)[0].numpy().astype(np.uint8)
    handle.remove()
    (box,) = owned_boxes(restored.prediction.isel(sample=[sample], condition=0), ("y", "x")).tolist()
    own = tuple(slice(*ends) for ends in box)
    expected = confusion_of(restored.label.isel(sample=sample).values[own], predicted[own], 4)
    found = group["confusion"].isel(sample=sample).sel(condition=CONDITION, edit="L02:2").values
    assert np.abs(found - expected).sum() <= 2


def test_a_cut_gives_the_donors_stored_prediction(tiny_copy: Path, tmp_path: Path, write_spec: WriteSpec) -> None:
    tables: list[dict[str, Any]] = [
        {"name": "back", "edit": "patch", "into": [CONDITION], "layers": ["bottom.1"], "channels": "layer"},
        {"name": "forth", "edit": "patch", "donor": CONDITION, "layers": ["bottom.1"], "channels": "layer"},
    ]
    store = intervened(tmp_path, write_spec, tiny_copy, tables)
    for name, donor in (("back", "original"), ("forth", CONDITION)):
        group = store.group(f"interventions/{name}").load()
        edited = group["edited"].values[:, 0]
        assert edited.any()
        expected = store.confusion.sel(condition=donor).values[edited]
        assert (group["confusion"].values[edited, 0, 0] == expected).all()
    changed = store.confusion.sel(condition=CONDITION).values != store.confusion.isel(condition=0).values
    assert changed.any(), "the condition changes predictions, so that the test can fail"


def test_the_planted_channel_alone_carries_the_class(tmp_path: Path, write_spec: WriteSpec) -> None:
    spec = write_spec(
        tmp_path,
        model__factory="networks:Planted",
        model__layers=["layer"],
        intervene=[{**EACH, "name": "off"}, RESTORE],
        data__patients=["patient001"],
    )
    assert actstore.capture(load_spec(spec), cluster="inline", device="cpu").complete
    assert intervene(load_spec(spec), cluster="inline", device="cpu")[-1].complete
    store = actstore.open(tmp_path / "tiny.zarr")
    plain = store.confusion.compute()
    off = store.group("interventions/off").load()["confusion"].sel(condition="original")
    assert plain.isel(condition=0).sel(predicted_class="LV").sum() > 0
    assert (off.sel(edit="L01:1", predicted_class="LV") == 0).all()
    group = store.group("interventions/restore").load()
    edited = group["edited"].values[:, 0]
    assert (plain.sel(condition=CONDITION).values[edited] != plain.isel(condition=0).values[edited]).any()
    assert (group["confusion"].sel(edit="L01:1").values[edited, 0] == plain.isel(condition=0).values[edited]).all()
    for edit in ("L01:0", "L01:2", "L01:3"):
        assert (off.sel(edit=edit).values == plain.isel(condition=0).values).all()
        other = group["confusion"].sel(edit=edit).values[edited, 0]
        assert (other == plain.sel(condition=CONDITION).values[edited]).all()


def test_recomputed_donors_are_those_that_are_stored(tiny_copy: Path, tmp_path: Path, write_spec: WriteSpec) -> None:
    stored = intervened(tmp_path, write_spec, tiny_copy, [RESTORE]).group("interventions/restore").load()
    lean = tmp_path / "lean"
    lean.mkdir()
    spec = write_spec(lean, store__keep="statistics", intervene=[RESTORE])
    assert actstore.capture(load_spec(spec), cluster="inline", device="cpu").complete
    plan = CliRunner().invoke(main, ["plan", str(spec)])
    assert "computed in the same passes" in " ".join(plan.output.split())
    assert "6 edits a sample and condition" in " ".join(plan.output.split())
    said = CliRunner().invoke(main, ["intervene", str(spec), "--cluster", "inline", "--device", "cpu"])
    assert said.exit_code == 0, said.output
    assert "the donor's maps of 2 layers are not stored as they were, and are computed in the same" in said.output
    single = write_spec(lean, store__keep="statistics", intervene=[{**RESTORE, "name": "single"}], run__batch_size=1)
    with pytest.raises(SpecError, match=r"'down.1' are not stored as they were.*run.batch_size = 1: give 2 or more"):
        intervene(load_spec(single), cluster="inline", device="cpu")
    found = actstore.open(lean / "tiny.zarr").group("interventions/restore").load()
    assert np.abs(found["confusion"].values - stored["confusion"].values).sum() <= 1e-4 * stored["confusion"].sum()


def test_what_is_put_in(tiny_copy: Path, tmp_path: Path, write_spec: WriteSpec) -> None:
    tables: list[dict[str, Any]] = [
        {"name": "mean", "edit": "mean"},
        {"name": "shuffle", "edit": "shuffle", "seed": 3},
        {"name": "in", "edit": "shuffle", "region": "inside", "target": "LV"},
        {**RESTORE, "region": "outside"},
    ]
    spec = load_spec(write_spec(tmp_path, store__path=tiny_copy, intervene=tables))
    store = actstore.open(tiny_copy)
    mean, shuffle, inside, outside = (plan.of for plan in plan_intervene(spec, device="cpu"))
    sample = int(np.flatnonzero(store.applicable.sel(condition=CONDITION).values)[2])

    def made(of: Any, number: int) -> Any:
        edit = next(edit for edit in of.edits if edit.layer == 1 and edit.sets[0] == (number,))
        own = EditedSample(of, store, torch.device("cpu"), lambda *_: np.zeros(0, np.float32), sample, 0)
        return own.intervention(edit, 0)

    stored = store.statistics("L02", ["mean"])["mean"].isel(condition=0).mean("sample").values
    assert made(mean, 3).values.item() == np.float32(stored[3])
    first, again = made(shuffle, 2).order, made(shuffle, 2).order
    assert torch.equal(first, again)
    assert torch.equal(first[0].sort().values, torch.arange(32 * 32))
    assert not torch.equal(first[0], torch.arange(32 * 32))
    own, rest = made(inside, 2), made(outside, 2)
    assert torch.equal(own.where, ~rest.where)
    label = (store.label.isel(sample=sample).values == 3).reshape(32, 2, 32, 2).any((1, 3))
    assert label.any()
    assert own.where.numpy()[label].mean() > 0.8
    moved = (own.order[0] != torch.arange(32 * 32)).reshape(32, 32)
    assert moved.any()
    assert not (moved & ~own.where).any()
    has = (store.label.values == 3).any((1, 2))
    assert not has.all()
    assert (inside.edited(store)[:, 0] == has).all(), "without the class nothing would be edited"


def test_sets_grow_in_the_order_of_the_table(tiny_copy: Path, tmp_path: Path, write_spec: WriteSpec) -> None:
    cumulative = {"channels": "cumulative", "effect_of": "restore", "repeats": 2}
    tables: list[dict[str, Any]] = [
        RESTORE,
        {**RESTORE, "name": "more", "orders": ["frequency", "effect", "random"], **cumulative},
        {"name": "top", "edit": "zero", "channels": "top:2", "top": 1, "samples": 3},
        {"name": "lists", "edit": "zero", "channels": [[0], [1, 0]]},
    ]
    store = intervened(tmp_path, write_spec, tiny_copy, tables)
    group = store.group("interventions/more").load()
    assert group["count"].values[group["layer"].values == "L02"].tolist() == [1, 2, 3, 4] * 4
    table = actstore.Findings(store, most=4).table("frequency")
    own = table[(table["layer"] == "L02") & (table["condition"] == CONDITION)].sort_values("rank")
    wanted = own["channel"].tolist()
    for count in range(1, min(4, len(wanted)) + 1):
        chosen = group["chosen"].sel(edit=f"L02:frequency:{count}").values[0]
        assert np.flatnonzero(chosen).tolist() == sorted(wanted[:count])
    # All channels are the same set in every order.
    whole = group["confusion"].values[:, :, (group["count"] == 4).values & (group["layer"] == "L02").values]
    assert whole.shape[2] == 4
    assert (whole == whole[:, :, :1]).all()
    assert set(store.group("interventions/lists")["edit"].values) == {"L01:0", "L01:1+0", "L02:0", "L02:1+0"}
    top = store.group("interventions/top").load()
    patients = store.samples["patient"].to_numpy()[top["edited"].values.any(1)]
    assert sorted(patients) == ["patient001"] * 3 + ["patient002"] * 3


def test_damage_is_repaired_and_a_worker_makes_the_same(
    restored: actstore.Store, tmp_path: Path, write_spec: WriteSpec
) -> None:
    folder = Path(str(restored.path)) / "interventions"
    whole = files_of(folder)
    for key in [*folder.glob("restore/confusion/c.1.*"), *folder.glob("restore/committed/c.2*")]:
        key.unlink()
    damage = verify(restored.path).damage
    assert {found.group for found in damage} == {"interventions/restore"}
    repair(restored.path, damage, spec=load_spec(tmp_path / "spec.toml"), cluster="inline", device="cpu")
    assert files_of(folder) == whole
    for key in folder.glob("restore/committed/c.*"):
        key.unlink()
    gone = write_spec(
        tmp_path,
        store__path=restored.path,
        data__root=tmp_path / "gone",
        intervene=[{**RESTORE, "into": [CONDITION, OTHER]}],
    )
    again = intervene(load_spec(gone), cluster="local", workers=1, device="cpu")
    assert again[0].done == 4
    assert files_of(folder) == whole, "by a worker, without the data set"


def test_batches_of_one_count_the_same(tiny_copy: Path, tmp_path: Path, write_spec: WriteSpec) -> None:
    whole = intervened(tmp_path, write_spec, tiny_copy, [RESTORE]).group("interventions/restore")["confusion"].values
    tables = [{**RESTORE, "name": "single"}]
    single = intervened(tmp_path, write_spec, tiny_copy, tables, run__batch_size=1)
    found = single.group("interventions/single")["confusion"].values
    assert np.abs(found - whole).sum() <= 1e-4 * whole.sum()


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "own condition": ({"edit": "patch"}, "patches original into itself.*name another donor"),
    "own perturbation": ({"edit": "patch", "into": [CONDITION], "donor": CONDITION}, "into itself"),
    "unknown condition": ({"edit": "zero", "into": ["blur(LV, 2)"]}, r"condition 'blur\(LV, 2\)': the run has"),
    "donor of zero": ({"edit": "zero", "donor": "original"}, 'donor is of edit = "patch": take it out'),
    "channel beyond": ({"edit": "zero", "channels": [0, 7]}, "names channel 7, and L01 .*has 2, from 0 on"),
    "channels": ({"edit": "zero", "channels": "some"}, 'must be "each", "layer", "top:3"'),
    "set twice": ({"edit": "zero", "channels": [[0, 1], [1, 0]]}, r"the set \[1, 0\] is there twice: take one out"),
    "twice": ({"edit": "zero", "channels": [1, 1]}, "each once"),
    "no layer": ({"edit": "zero", "layers": ["nothing"]}, "matches no module"),
    "region without class": ({"edit": "zero", "region": "inside"}, "original perturbs no class: name one in target"),
    "not recorded": ({"edit": "mean", "layers": ["up"]}, "needs the stored means, and 'up' is none of its layers"),
    "effect of nothing": ({**BY_EFFECT, "name": "bad"}, "has no intervention of that name"),
    "effect elsewhere": (
        {**BY_EFFECT, "effect_of": "bad2", "region": "inside", "target": "LV"},
        "which has another edit, donor, region or into",
    ),
    "effect without name": ({"edit": "zero", "channels": "cumulative", "orders": ["effect"]}, "go together"),
    "counts of each": ({"edit": "zero", "counts": [1]}, 'counts is of channels = "cumulative"'),
    "name": ({"edit": "zero", "name": "a/b"}, "'a/b' is no name of a group"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line(name: str, tiny_copy: Path, tmp_path: Path, write_spec: WriteSpec) -> None:
    table, message = BAD[name]
    path = write_spec(tmp_path, store__path=tiny_copy, intervene=[{"name": "bad", **table}, {**EACH, "name": "bad2"}])
    with pytest.raises(ActstoreError) as caught:
        intervene(load_spec(path), cluster="inline", device="cpu")
    assert re.search(message, str(caught.value)), caught.value
    assert "\n" not in str(caught.value)


def test_without_interventions(tiny_copy: Path, tmp_path: Path, write_spec: WriteSpec) -> None:
    with pytest.raises(SpecError, match=r"has no interventions: add a table \[\[intervene\]\]"):
        intervene(load_spec(write_spec(tmp_path, store__path=tiny_copy)), cluster="inline")


def test_another_run_is_refused(tiny_copy: Path, tmp_path: Path, write_spec: WriteSpec) -> None:
    path = write_spec(tmp_path, store__path=tiny_copy, model__arguments={"seed": 5}, intervene=[EACH])
    with pytest.raises(StoreError, match="belongs to another run"):
        intervene(load_spec(path), cluster="inline")


def test_the_order_by_effect_waits_for_its_effects(tiny_copy: Path, tmp_path: Path, write_spec: WriteSpec) -> None:
    spec = load_spec(write_spec(tmp_path, store__path=tiny_copy, intervene=[EACH, BY_EFFECT]))
    with pytest.raises(StoreError, match="interventions/each, which is not complete: `actstore intervene"):
        intervene(spec, names=["more"], cluster="inline", device="cpu")


def test_the_order_by_effect_is_of_the_effects_in_the_spec(
    tiny_copy: Path, tmp_path: Path, write_spec: WriteSpec
) -> None:
    intervened(tmp_path, write_spec, tiny_copy, [{**EACH, "samples": 1}])
    spec = load_spec(write_spec(tmp_path, store__path=tiny_copy, intervene=[EACH, BY_EFFECT]))
    with pytest.raises(StoreError, match=r"interventions/each, which was made with other settings \(samples: 1 → null"):
        intervene(spec, names=["more"], cluster="inline", device="cpu")


def test_repeats_of_the_original_rank_channels_by_what_is_perturbed(tmp_path: Path, write_spec: WriteSpec) -> None:
    table = {"edit": "patch", "into": ["repeat"], "donor": CONDITION, "channels": "cumulative", "orders": ["mad"]}
    changes = {"controls__noise": True, "data__patients": ["patient001"]}
    spec = load_spec(write_spec(tmp_path, intervene=[{"name": "more", **table}], **changes))
    assert actstore.capture(spec, cluster="inline", device="cpu").complete
    (plan,) = plan_intervene(spec, device="cpu")
    mad = actstore.open(tmp_path / "tiny.zarr").statistics("L02", ["mad"])["mad"].sel(condition=CONDITION)
    expected = np.argsort(-mad.mean("sample").values, kind="stable")
    assert plan.of.rankings[0].channels[1][0] == tuple(expected)


def test_classifiers_count_classes_and_scores(classified_store: Path, tmp_path: Path) -> None:
    store = actstore.open(shutil.copytree(classified_store, tmp_path / "tiny.zarr"))
    text = classified_store.with_name("spec.toml").read_text(encoding="utf-8")
    name = store.conditions.index[1]
    table = f'[[intervene]]\nname = "restore"\nedit = "patch"\ninto = ["{name}"]\nchannels = "layer"\n'
    kept = [line for line in text.splitlines() if not line.startswith("store =")]
    path = tmp_path / "spec.toml"
    path.write_text("\n".join([*kept, f'store = {{path = "{tmp_path / "tiny.zarr"}"}}', table]), encoding="utf-8")
    assert intervene(load_spec(path), cluster="inline", device="cpu")[-1].complete
    group = store.group("interventions/restore").load()
    edited = group["edited"].values[:, 0]
    assert edited.any()
    last = group.isel(edit=-1)
    expected = store.score.isel(condition=0).values[edited]
    np.testing.assert_allclose(last["score"].values[edited, 0], expected, rtol=1e-4, atol=1e-5)
    assert (last["confusion"].values[edited, 0] == store.confusion.isel(condition=0).values[edited]).all()
    assert np.isnan(last["score"].values[~edited]).all()


def test_values_of_features_are_not_shuffled(classified_store: Path, tmp_path: Path) -> None:
    text = classified_store.with_name("spec.toml").read_text(encoding="utf-8")
    path = tmp_path / "spec.toml"
    path.write_text(text + '\n[[intervene]]\nname = "mixed"\nedit = "shuffle"\nlayers = ["last"]\n', encoding="utf-8")
    with pytest.raises(SpecError, match="'last' has one value a channel: take it out of layers"):
        intervene(load_spec(path), store=classified_store, cluster="inline", device="cpu")
