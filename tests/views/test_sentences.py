"""Every sentence of a report: its words and numbers where it must stand, nothing where it must not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from actstore import analysis
from actstore.case_rules import CaseRules
from actstore.views.report.sentences import channels, failures, patients, questions, segmentation
from actstore.views.report.study import ShownTable
from actstore.views.wording import filled, interval, notes_of, number, part, percent, slug, with_interval

WIDTHS = pd.Series({"L01": 4, "L02": 16, "L03": 16})


def cells(**counts: list[int]) -> pd.DataFrame:
    """Cells of a map of frequencies: the counts of the first channels of each layer, of 20 perturbed slices."""
    rows = [
        {"layer": layer, "channel": c, "count": n, "samples": 20, "share": n / 20, "group": "all"}
        for layer, own in counts.items()
        for c, n in enumerate(own)
    ]
    return pd.DataFrame(rows)


class TestSteadiest:
    def test_the_channel_with_the_highest_share_over_all_perturbations(self) -> None:
        [said] = channels.steadiest(
            cells(L01=[20, 20, 20, 0], L02=[3, 19], L03=[18, 2]), WIDTHS, 3, "12 slices under 2 perturbations"
        )
        assert said == (
            "Channel 1 of L02 responds most steadily: it is among the top 3 of its layer in 19 of 20 perturbed images "
            "(95 %), of 12 slices under 2 perturbations. L01 is left out: it has fewer than 6 channels."
        )

    def test_equal_channels_are_named_together_with_their_number(self) -> None:
        [said] = channels.steadiest(cells(L02=[20, 1, 20], L03=[20, 0, 0]), WIDTHS[1:], 3, "20 slices")
        assert said == (
            "3 channels respond most steadily, each among the top 3 of its layer in 20 of 20 perturbed images (100 %), "
            "of 20 slices: channel 0 of L02, channel 2 of L02 and channel 0 of L03."
        )
        [many] = channels.steadiest(cells(L02=[20] * 9), WIDTHS[1:], 3, "20 slices")
        assert many.startswith("9 channels respond")
        assert many.endswith("channel 3 of L02 and 5 more.")

    def test_nothing_where_no_channel_changed_or_all_layers_are_narrow(self) -> None:
        assert channels.steadiest(cells(L02=[0, 0]), WIDTHS, 3, "20 slices") == []
        assert channels.steadiest(cells(L01=[20, 20]), WIDTHS, 3, "20 slices") == []

    def test_nearly_all_is_not_all(self) -> None:
        found = cells(L02=[20]).assign(count=999, samples=1000)
        assert "in 999 of 1000 perturbed images (> 99 %)" in channels.steadiest(found, WIDTHS, 3, "20 slices")[0]


class TestThroughout:
    def test_counts_channels_under_every_perturbation(self) -> None:
        both = pd.concat(
            [cells(L01=[20] * 4, L02=[10, 9, 20, 0]).assign(group=g, share=lambda f, d=d: f["share"] * d) for g, d in
             (("a", 1.0), ("b", 0.8))]
        )  # fmt: skip
        assert channels.throughout(both, WIDTHS, 3) == [
            "1 of 4 channels (25 %) in layers of at least 6 channels are among the top 3 in at least half of the "
            "slices "
            "under each of 2 perturbations."
        ]
        one = both[both["group"] == "a"]
        assert channels.throughout(one, WIDTHS, 3)[0].endswith("under the only perturbation.")

    def test_nothing_of_narrow_layers_alone(self) -> None:
        assert channels.throughout(cells(L01=[20]), WIDTHS, 3) == []


def test_layers_in_which_nothing_changes_are_named() -> None:
    found = cells(L01=[0, 0], L02=[1, 0], L03=[0, 0])
    assert channels.still(found, ["L01", "L02", "L03"])[0].startswith("In L01 and L03, no channel changed")
    assert channels.still(found[found["layer"] != "L02"], ["L01", "L03"])[0].startswith("In any layer, no channel")
    assert channels.still(cells(L01=[1]), ["L01"]) == []


def test_where_change_is_largest() -> None:
    table = pd.DataFrame(
        {
            "condition": ["a", "a", "b", "b", "c", "c", "d", "d"],
            "layer": ["L01", "L02"] * 4,
            "mad": [0.5, 0.5, 0.0, 0.0, 0.1, 0.3, np.nan, np.nan],
            "standardised": [0.1, 0.2, 0.0, 0.0, np.nan, np.nan, np.nan, np.nan],
        }
    )
    assert channels.layers(table) == [
        "a: the raw change is largest in L01 and L02 (mean MAD 0.50), relative to how much channels vary on the "
        "original in L02 (0.20 standard deviations).",
        "b: no layer changes.",
        "c: the raw change is largest in L02 (mean MAD 0.30).",
    ]


def compared(**changes: Any) -> pd.DataFrame:
    table = pd.DataFrame(
        {
            "layer": ["L01", "L02", "L02", "L03", "L03"],
            "channel": [0, 1, 2, 3, 4],
            "targets": ["LV", "LV", "RV, LV", "RV", "RV"],
            "number": [1, 1, 2, 1, 1],
            "specific": ["LV", "LV", "", "RV", "RV"],
            "specific_share": [1.0, 0.95, np.nan, 0.94, 0.99],
        }
    )
    return table.assign(**changes)


class TestSpecific:
    def test_own_class_and_no_other_in_resamples(self) -> None:
        assert channels.specific(compared(), WIDTHS, 7, 2, None) == [
            "3 of 4 channels (75 %) among the 7 most frequent of their layer are so for one class only (RV 2, LV 1), 1 "
            "for both classes; all perturbations of a class count together. Of those of one class only, 2 are among "
            "the 7 "
            "of this class and of no other in at least 95 % of resamples of the patients. L01 is left out: it has "
            "fewer "
            "than 14 channels."
        ]

    def test_beside_their_control(self) -> None:
        controls = pd.DataFrame(
            {
                "layer": ["L02", "L02", "L03", "L03"],
                "channel": [1, 1, 4, 3],
                "target": ["LV", "RV", "LV", "RV"],
                "sensitive": [True, True, True, True],
                "q": [0.01, 0.01, 0.01, np.nan],
                "tests": [40, 36, 40, 36],
            }
        )
        said = channels.specific(compared(), WIDTHS, 7, 2, controls)[0]
        assert (
            "and 1 of these also respond to the class more than to its control (q < 0.05, corrected over 36 to 40 "
            "tests of "
            "each transform, class and source)"
        ) in said
        assert "control" not in channels.specific(compared(), WIDTHS, 7, 2, controls.assign(q=np.nan))[0]

    def test_few_patients_say_nothing_of_resamples(self) -> None:
        assert "resamples" not in channels.specific(compared(specific_share=np.nan), WIDTHS, 7, 2, None)[0]

    def test_nothing_of_one_class_or_narrow_layers(self) -> None:
        assert channels.specific(compared(), WIDTHS, 7, 1, None) == []
        assert channels.specific(compared(layer="L01"), WIDTHS, 7, 2, None) == []


def test_how_many_frequent_channels_are_found_again() -> None:
    chosen = pd.DataFrame(
        {
            "layer": ["L01", "L02", "L02", "L03"],
            "low": [0.1, 0.2, 0.2, 0.2],
            "high": [0.9, 0.4, 0.5, 0.8],
            "selected": [1.0, 0.95, 0.94, 1.0],
        }
    )
    assert channels.certain(chosen, WIDTHS, 7) == [
        "2 of 3 most frequent channels (67 %) (up to 7 of each layer and perturbation) are found again in at least 95 "
        "% "
        "of resamples of the patients; the 95 % interval of their frequency is 0.30 wide (median). L01 is left out: it "
        "has fewer than 14 channels."
    ]
    assert channels.certain(chosen.assign(selected=np.nan), WIDTHS, 7) == []


class TestFailures:
    shares = pd.DataFrame(
        {
            "condition": ["a", "a", "b", "b", "b"],
            "target": ["LV", "LV", "MYO", "MYO", "MYO"],
            "case": ["error", "only RV", "MYO + others", "error", "empty prediction"],
            "samples": [58, 22, 28, 28, 20],
        }
    )

    def test_equal_outcomes_are_named_together(self) -> None:
        assert failures.usual(self.shares) == (
            "The most usual outcome is “error” (an unclassified failure: none of the named kinds) under a "
            "(58 of 80 slices); “MYO + others” and “error” under b (28 of 76 slices each)."
        )

    def test_the_legend_is_the_rules(self) -> None:
        names, members = ["background", "RV", "MYO", "LV"], {"RV": (1,), "MYO": (2,), "LV": (3,)}
        lines = failures.legend(self.shares, CaseRules(others_from=12, empty_below=1), names, members)
        assert lines[1] == (
            "LV perturbed: “only RV”: fewer than 10 pixels of LV, at most 20 of MYO and more than 100 of RV are "
            "predicted; “error”: LV and MYO are both predicted, and neither of the rules for that holds; or no rule "
            "holds at all."
        )
        assert lines[2] == (
            "MYO perturbed: “empty prediction”: fewer than 1 pixel of all classes together are predicted; “MYO + "
            "others”: at least 12 pixels of MYO are predicted, and at least 30 % of them are true MYO; “error”: no "
            "rule "
            "holds."
        )

    def test_every_case_that_there_can_be_has_its_rule(self) -> None:
        """Of random confusion matrices, no kind lacks a line of the legend."""
        rng = np.random.default_rng(0)
        regions: dict[str, tuple[int, ...]] = {"A": (1,), "AB": (1, 2), "all": (1, 2, 3)}
        heart, two = {"RV": (1,), "MYO": (2,), "LV": (3,)}, {"A": (1,), "B": (2,)}
        for members, known in ((heart, list(heart)), (two, list(two)), (regions, ["A", "B", "C"])):
            classes, names = list(members), ["background", *known]
            n = len(names)
            sizes = rng.integers(0, 300, (4000, len(classes), n, n)) * (rng.random((4000, len(classes), n, n)) < 0.3)
            confusion = analysis_confusion(sizes, classes, names)
            found = analysis.cases(confusion, regions=members)
            pairs = {(t, c) for t, column in zip(classes, found.values.T, strict=True) for c in column} - {
                (t, "") for t in classes
            }
            shares = pd.DataFrame(sorted(pairs), columns=["target", "case"])
            lines = " ".join(failures.legend(shares, CaseRules(), names, members))
            assert all(f"“{case}”:" in lines for case in shares["case"])
            assert lines.count("”:") == len(shares)

    def test_a_caption_has_one_denominator(self) -> None:
        assert failures.gallery("error", "a", 58, 80, 4, "Lines") == (
            "“error” under a: 58 of 80 slices (72 %). Shown: 4 of them, from different patients as far as possible. "
            "Lines."
        )
        assert "Shown: all of them." in failures.gallery("error", "a", 1, 80, 1, "Lines")

    def test_the_bars(self) -> None:
        said = failures.bars(pd.Series({"a": 80, "b": 1}), 6)
        assert said == "How many slices fall into each kind of failure. a: 80 slices; b: 1 slice; 6 patients."


def analysis_confusion(sizes: Any, classes: Any, names: list[str]) -> Any:
    import xarray as xr

    return xr.DataArray(
        sizes,
        dims=("sample", "condition", "true_class", "predicted_class"),
        coords={
            "condition": [f"brightness({t}, 0.1)" for t in classes],
            "target": ("condition", list(classes)),
            "true_class": names,
            "predicted_class": names,
        },
    )


CONDITIONS = pd.DataFrame(
    {"transform": ["brightness", "brightness", "blur"], "target": ["LV", "LV", "RV"], "strength": [0.1, 1.3, 2.0]},
    index=["brightness(LV, 0.1)", "brightness(LV, 1.3)", "blur(RV, 2)"],
)


MEANS: dict[str, Any] = {
    "class_name": "LV", "condition": "brightness(LV, 0.1)", "target": "LV", "original": 0.9, "perturbed": 0.5,
    "samples": 80, "patients": 6, "note": "", "change_low": -0.5, "change_high": -0.3, "change_error": 0.0,
}  # fmt: skip


class TestSegmentation:
    def test_a_sure_change(self) -> None:
        assert segmentation.change(MEANS, CONDITIONS) == (
            "Darkening LV to 10 % lowers the Dice of LV from 0.90 to 0.50 (mean over 80 slices of 6 patients that "
            "contain it; 95 % interval of the change −0.50 to −0.30)."
        )
        up = MEANS | {"change_low": 0.1, "change_high": 0.2}
        assert " raises the Dice of LV " in segmentation.change(up, CONDITIONS)

    def test_an_unsure_change(self) -> None:
        said = segmentation.change(MEANS | {"change_high": 0.1}, CONDITIONS)
        assert "does not measurably change the Dice of LV (0.90 before, 0.50 after)" in said

    def test_few_patients(self) -> None:
        few = MEANS | {
            "change_low": np.nan,
            "change_high": np.nan,
            "change_error": np.nan,
            "patients": 2,
            "note": "2 patients: too few",
        }
        said = segmentation.change(few, CONDITIONS)
        assert "changes the Dice of LV from 0.90 to 0.50" in said
        assert said.endswith("(mean over 80 slices of 2 patients that contain it; 2 patients: too few).")
        still = segmentation.change(few | {"perturbed": 0.9}, CONDITIONS)
        assert "leaves the Dice of LV at 0.90" in still

    def test_digits_end_where_the_draws_do(self) -> None:
        said = segmentation.change(MEANS | {"change_error": 0.02}, CONDITIONS)
        assert "95 % interval of the change −0.5 to −0.3" in said

    def test_what_a_condition_does(self) -> None:
        assert [segmentation.action(name, CONDITIONS) for name in CONDITIONS.index] == [
            "darkening LV to 10 %", "brightening LV to 130 %", "perturbing RV by blur(RV, 2)",
        ]  # fmt: skip

    def test_what_was_done(self) -> None:
        shown = ["brightness(LV, 0.1)", "blur(RV, 2)"]
        said = segmentation.perturbations(shown, CONDITIONS, "minmax-slice", "perturbed")
        assert "(minmax-slice), each perturbed slice by itself" in said[0]
        assert said[1].startswith("The figures show 2 of 3 perturbations: of each transform, class and source")
        assert "every condition as its original slice" in segmentation.perturbations(
            shown, CONDITIONS, "minmax-slice", "original"
        )[0]  # fmt: skip
        assert len(segmentation.perturbations(list(CONDITIONS.index), CONDITIONS, "none", "perturbed")) == 1
        said = segmentation.perturbations(shown, CONDITIONS, "none", "perturbed", "nnU-Net")[0]
        assert "preprocessed afterwards as nnU-Net does it, by itself" in said
        assert "as they are" not in said
        assert segmentation.perturbations([], CONDITIONS, "none", "perturbed") == []
        [_, some] = segmentation.perturbations(shown[:1], CONDITIONS, "none", "perturbed")
        assert "the first 1 of 2 pairs" in some

    def test_untouched_images(self) -> None:
        table = pd.DataFrame({"class_name": ["RV", "LV"], "samples": [0, 12], "dice": [np.nan, 0.9354]})
        assert segmentation.untouched(table) == [
            "On untouched images the mean Dice over the slices that contain the class is LV 0.935 (12 slices)."
        ]
        assert segmentation.untouched(table[:1]) == []


class TestPatients:
    def test_patients_that_differ(self) -> None:
        table = pd.DataFrame({"q": [0.01, 0.05, 0.5, np.nan], "tests": [3, 3, 3, 0], "patients": 6, "volumes": 12})
        [said] = patients.heterogeneity(table)
        assert said == (
            "1 of 3 frequencies (33 %) of a channel under a perturbation is found to differ between patients, more "
            "than "
            "volumes exchanged between them do by chance (q < 0.05, corrected over 3 tests of each transform, class "
            "and "
            "source)."
        )
        assert patients.heterogeneity(table.assign(q=np.nan)) == []

    def test_few_patients_can_show_little(self) -> None:
        table = pd.DataFrame({"q": [0.5], "tests": [125], "patients": 6, "volumes": 12})
        assert patients.heterogeneity(table)[0].endswith(
            "With 6 patients of 2 volumes, p cannot fall below 0.001: a single channel that differs could not be found."
        )
        assert "cannot fall" not in patients.heterogeneity(table.assign(volumes=18))[0]
        assert "cannot fall" not in patients.heterogeneity(table.assign(patients=8, volumes=16))[0]

    def test_leaving_one_out(self) -> None:
        table = pd.DataFrame(
            {
                "layer": ["L01", "L02", "L02", "L03"],
                "condition": "a",
                "patient": ["patient001", "patient001", "patient002", "patient002"],
                "kept": [0.1, 1.0, 0.5, 0.9],
            }
        )
        assert patients.leave_one_out(table, WIDTHS, 7) == [
            "Leaving one patient out keeps 80 % of the up to 7 most frequent channels of a layer on average, at worst "
            "50 % "
            "(L02 without patient002 under a); in layers of at least 14 channels."
        ]
        [all_stay] = patients.leave_one_out(table.assign(kept=1.0), WIDTHS, 7)
        assert "at worst 100 %; in" in all_stay
        assert patients.leave_one_out(table.assign(patient="patient001"), WIDTHS, 7) == []
        assert patients.leave_one_out(table.assign(kept=np.nan), WIDTHS, 7)[0].startswith("No channel is ever")
        assert patients.leave_one_out(table.assign(layer="L01"), WIDTHS, 7) == []


class TestQuestions:
    def test_where_change_lies(self) -> None:
        table = pd.DataFrame(
            {"layer": ["L01", "L01", "L02"], "inside_share": [0.4, 0.6, 0.2], "outside_share": [0.3, 0.1, 0.7]}
        )
        assert questions.regions(table, 10.0) == [
            "Of a map's change, in L01, 50 % lies inside the perturbed region and 20 % outside it and its rim of 10 "
            "mm; "
            "in L02, 20 % lies inside the perturbed region and 70 % outside it and its rim of 10 mm (means over "
            "samples, "
            "channels and perturbations)."
        ]
        assert questions.regions(table[2:], 10.0)[0].count("lies inside") == 1
        assert questions.regions(table.assign(inside_share=np.nan), 10.0) == []

    def test_what_a_layer_does_not_see(self) -> None:
        table = pd.DataFrame({"layer": ["L01", "L01", "L02"], "seen": [0.9, 0.97, 1.0]})
        assert questions.seen(table)[0].startswith(
            "The pixels of L01 (90 % at worst) do not cover all of the perturbed region: these layers end before"
        )
        assert questions.seen(table[2:]) == []

    def test_controls(self) -> None:
        table = pd.DataFrame(
            {
                "condition": ["a", "a", "b", "b"],
                "sensitive": [True, False, True, True],
                "q": [0.01, 0.3, 0.01, 0.02],
                "tests": 2,
                "samples": [30, 30, 96, 96],
                "rescaled": [66, 66, 0, 0],
            }
        )
        assert questions.controls(table) == [
            "Channels that respond more to the class than to the same perturbation elsewhere in the body: 1 of 2 to a, "
            "2 of 2 to b (q < 0.05, corrected over 2 tests of each transform, class and source; n = 30 to 96 samples)."
        ]
        assert questions.controls(table.assign(q=np.nan)) == []
        assert questions.rescaled(table)[0].startswith(
            "Left out, because normalisation rescaled the whole of the perturbed image or of its control: 66 of 96 "
            "slices "
            "under a. With"
        )
        assert questions.rescaled(table.assign(rescaled=0)) == []

    def test_noise(self) -> None:
        table = pd.DataFrame({"condition": ["repeat", "repeat", "repeat(batch=1)"], "largest": [0.0, 0.0, 2e-6]})
        assert questions.noise(table) == [
            "The noise floor, the original once more: repeat: bit for bit the same; repeat(batch=1): largest MAD 2e−06."
        ]

    def test_half_of_the_dice(self) -> None:
        table = pd.DataFrame(
            {
                "class_name": ["LV", "RV", "RV"],
                "target": ["LV", "LV", "RV"],
                "transform": "brightness",
                "half_below": [0.4, 0.1, np.nan],
                "half_above": [1.5, np.nan, np.nan],
                "samples": [80, 80, 1],
                "patients": [6, 6, 1],
            }
        )
        doses = pd.DataFrame({"transform": "brightness", "strength": [0.0, 0.4, 1.0, 2.0]}).merge(
            pd.DataFrame({"target": ["LV", "RV"]}), how="cross"
        )
        assert questions.half_lost(table, doses) == [
            "Strength at which half of the Dice is lost, on straight lines between strengths: LV at 0.40 and at 1.50, "
            "between 1 and 2 (brightness; 80 slices of 6 patients), RV at no strength that was run (brightness; 1 "
            "slice "
            "of 1 patient)."
        ]
        assert questions.half_lost(table[1:2], doses) == []
        assert questions.half_lost(table.assign(samples=0), doses) == []

    def test_changes_of_kind(self) -> None:
        assert questions.case_changes(pd.DataFrame({"slices": [2, 1]})).endswith("does not count. 3 changes in all.")

    associated = pd.DataFrame(
        {
            "condition": ["a"] * 4 + ["b"],
            "target": "LV",
            "class_name": "LV",
            "channel": [0, 1, 2, 3, 0],
            "samples": 80,
            "patients": [12] * 4 + [0],
            "correlation": [0.9, 0.5, -0.6, 0.1, np.nan],
            "q": [0.01, 0.01, 0.01, 0.5, np.nan],
            "tests": [4, 4, 4, 4, 0],
            "size_baseline": [-0.7] * 4 + [np.nan],
            "frequency_rank": [1, 2, 3, 4, 1],
            "note": [""] * 4 + ["perturbed Dice of LV is 0 in 80 of 80 slices: no association"],
        }
    )
    floor = "Under b, no association with the loss of Dice can be tested: perturbed Dice of LV is 0 in 80 of 80 slices."

    def test_association_beside_the_size_of_the_class(self) -> None:
        assert questions.association(self.associated, 2) == [
            "For 2 of 4 pairs (50 %) of channel and perturbation, MAD is found to rise with the loss of Dice over the "
            "slices of a volume (to fall for 1); so it is for 2 of the 2 among the 2 most frequent of their layer (q < "
            "0.05, corrected over 4 tests of each transform, class and source; n = 80 samples, 12 patients).",
            "The size of the class alone correlates with the loss of Dice by −0.70 under a: 1 of these 2 correlations "
            "exceed it.",
            self.floor,
        ]

    def test_a_floor_everywhere_has_no_count(self) -> None:
        assert questions.association(self.associated[4:], 2) == [self.floor]

    def test_a_silent_channel_does_not_give_the_reason(self) -> None:
        none = pd.concat([self.associated[4:]] * 3, ignore_index=True)
        none["note"] = ["0 patients: too few for a test", *["4 patients: too few for a test"] * 2]
        assert questions.untested(none)[0].endswith("tested: 4 patients: too few for a test.")

    def test_without_sizes_nothing_is_said_of_them(self) -> None:
        said = questions.association(self.associated[:4].assign(size_baseline=np.nan), 2)
        assert not any("size of the class" in sentence for sentence in said)

    def test_where_nothing_rises_the_size_is_exceeded_by_none(self) -> None:
        said = questions.association(self.associated[:4].assign(q=0.5), 2)
        assert said[1] == "The size of the class alone correlates with the loss of Dice by −0.70 under a."

    def test_few_patients_can_show_little(self) -> None:
        some = questions.association(self.associated[:4].assign(patients=7, q=0.1), 2)
        assert some[0].endswith(
            "With 7 patients, p cannot fall below 0.02: a single channel that does could not be found."
        )
        none = questions.association(self.associated[:4].assign(patients=5, q=0.1), 2)
        assert none == [
            "With 5 patients, p cannot fall below 0.06: whether MAD rises with the loss of Dice cannot be found."
        ]


def test_a_table_on_the_page_and_its_file_have_the_same_rows() -> None:
    frame = pd.DataFrame({"a": [1, 2]})
    with pytest.raises(ValueError, match="key: 2 rows are shown and 1 written"):
        ShownTable("key", "caption", frame, frame[:1])


class TestWording:
    def test_numbers(self) -> None:
        assert [number(v) for v in (-0.0, -0.001, -0.00001, 0.5, 1.0, 0.0099)] == [
            "0.00", "−0.001", "−1e−05", "0.50", "1.00", "0.010",
        ]  # fmt: skip

    def test_digits_as_far_as_the_error_allows(self) -> None:
        assert [number(0.1234, e) for e in (0.0, 0.005, 0.0051, 0.05, 0.06, 0.6)] == [
            "0.12", "0.12", "0.1", "0.1", "0", "0",
        ]  # fmt: skip
        assert number(-0.04, 0.03) == "0.0"
        frame = pd.DataFrame({"a": [0.5], "a_low": [0.123], "a_high": [0.789], "a_error": [0.02]})
        assert with_interval(frame, "a") == ["0.50 (0.1 to 0.8)"]

    def test_an_interval_says_no_more_than_it_knows_and_nothing_else(self) -> None:
        assert interval(0.24, 0.05, 0.41, 0.03) == ("0.1", "0.4")
        for value, low, high, error in ((0.24, 0.05, 0.41, 0.6), (-0.13, -0.14, -0.12, 0.04), (1.12, 1.09, 1.14, 0.03)):
            ends = [float(end.replace("−", "-")) for end in interval(value, low, high, error)]
            assert ends[0] <= value <= ends[1]
            assert ends[0] < ends[1]
        assert interval(-0.05, -0.1, -0.01, 0.02)[1] == "−0.01", "never 0 where the interval does not reach it"
        assert interval(0.5, 0.5, 0.5) == ("0.50", "0.50")

    def test_notes_say_of_what_they_are(self) -> None:
        table = pd.DataFrame({"condition": ["a", "a", "b"], "note": ["few", "few", ""]})
        assert notes_of(table, "Dice") == ["On Dice (a): few."]
        assert notes_of(table.assign(note="few"), "Dice") == ["On Dice: few."]
        assert notes_of(table.assign(note=""), "Dice") == []

    def test_filled_dots_say_over_how_many_tests(self) -> None:
        table = pd.DataFrame({"q": [0.01, np.nan], "tests": [7, 0]})
        assert filled(table) == "filled: q < 0.05, corrected over 7 tests of each transform, class and source"
        assert filled(table[1:]) == "nothing is filled, since nothing could be tested"

    def test_file_names(self) -> None:
        assert [slug(name) for name in ("A/B", "../x", "A→B", "LV, left")] == ["A-B", "..-x", "A-to-B", "LV-left"]

    def test_shares(self) -> None:
        assert [percent(v) for v in (0.0, 0.001, 0.005, 0.5, 0.994, 0.999, 1.0, np.nan)] == [
            "0 %", "< 1 %", "< 1 %", "50 %", "99 %", "> 99 %", "100 %", "–",
        ]  # fmt: skip
        assert part(1, 1, "slice") == "1 of 1 slice (100 %)"
        assert part(0, 0, "slice") == "0 of 0 slices (–)"
