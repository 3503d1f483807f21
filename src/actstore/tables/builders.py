"""Each table of the catalogue, built from the findings of a store."""

from __future__ import annotations

import pandas as pd

from actstore.analysis.channels.relative import pooled_std, sample_rank
from actstore.analysis.layers import layer_slices
from actstore.analysis.segmentation.counts import class_size
from actstore.analysis.segmentation.pooling import pooled
from actstore.tables import certainty, channels, controls, doses, interventions, segmentation
from actstore.tables import curves as curve_tables
from actstore.tables import rankings as ranked
from actstore.tables.catalogue import Unanswerable
from actstore.tables.classification import accuracy_table, class_cases_table
from actstore.tables.explanations import EXPLANATIONS, deletion_table, landmarks_table, randomisation_table
from actstore.tables.optima import open_optima, optima_table
from actstore.tables.reductions import Reductions
from actstore.tables.representations import neighbours_table, projection_table, similarity_table


def dice(f: Reductions) -> pd.DataFrame:
    return segmentation.dice_table(f.confusion, applicable=f.applicable, regions=f.store.members)


def overlap_and_volumes(f: Reductions) -> pd.DataFrame:
    if f.per == "slice":
        return segmentation.segmentation_table(f.confusion, applicable=f.applicable, regions=f.store.members)
    by = ("patient", "frame") if f.per == "volume" else ("patient",)
    whole = pooled(f.confusion, by, applicable=f.applicable)
    return segmentation.segmentation_table(whole, regions=f.store.members)


def surface(f: Reductions) -> pd.DataFrame:
    if f.per == "patient":
        raise Unanswerable("surface distances are of a slice or a volume: a patient has several volumes")
    store = f.store
    return segmentation.surface_table(
        store.prediction, store.label, store.class_names, applicable=f.applicable, regions=store.members, by=f.per
    )


def dice_mean(f: Reductions) -> pd.DataFrame:
    return segmentation.dice_mean_table(
        f.confusion, over=f.over, applicable=f.applicable, regions=f.store.members, resamples=f.resamples
    )


def cases(f: Reductions) -> pd.DataFrame:
    if f.store.classified:
        return class_cases_table(f.confusion, applicable=f.applicable)
    rules, regions = f.store.case_rules, f.store.members
    return segmentation.cases_table(f.confusion, rules, applicable=f.applicable, regions=regions)


def accuracy(f: Reductions) -> pd.DataFrame:
    return accuracy_table(f.confusion, applicable=f.applicable)


def confusion(f: Reductions) -> pd.DataFrame:
    return curve_tables.confusion_table(f.confusion, f.keys, applicable=f.applicable)


def curves(f: Reductions) -> pd.DataFrame:
    return curve_tables.curves_table(f.curve_parts, resamples=f.resamples)


def roc(f: Reductions) -> pd.DataFrame:
    return curve_tables.roc_table(f.curve_parts)


def precision_recall(f: Reductions) -> pd.DataFrame:
    return curve_tables.precision_recall_table(f.curve_parts)


def calibration(f: Reductions) -> pd.DataFrame:
    return curve_tables.calibration_table(f.curve_parts)


def mad(f: Reductions) -> pd.DataFrame:
    rank = sample_rank(f.network["mad"])
    beside = {
        "standardised": f.standardised.variable,
        "sample_rank": rank.transpose(*f.standardised.dims).variable,
    }
    network = f.network.assign(beside)
    parts = {
        layer: network.isel(channel=where).assign_coords(module=f.layers[layer]["module"])
        for layer, where in layer_slices(network).items()
    }
    return channels.mad_table(parts, applicable=f.applicable, beside=tuple(beside))


def top_channels(f: Reductions) -> pd.DataFrame:
    return channels.top_channels_table(f.layers, f.top, applicable=f.applicable, metric=f.metric)


def frequency(f: Reductions) -> pd.DataFrame:
    keys = [f.cases if key == "case" else key for key in f.groups_of_cells()]
    return channels.frequency_table(f.layers, f.top, most=f.most, by=keys, applicable=f.applicable, metric=f.metric)


def layers(f: Reductions) -> pd.DataFrame:
    return channels.layers_table(
        f.network["mad"], f.standardised, f.network_rank, applicable=f.applicable, resamples=f.resamples
    )


def relative(f: Reductions) -> pd.DataFrame:
    return channels.relative_table(
        f.network["mad"], f.standardised, f.network_rank, applicable=f.applicable, resamples=f.resamples
    )


def comparison(f: Reductions) -> pd.DataFrame:
    return channels.comparison_table(f.member, f.most, applicable=f.applicable, resamples=f.resamples)


def general_specific(f: Reductions) -> pd.DataFrame:
    return channels.general_specific_table(f.member, f.cases, f.most)


def regions(f: Reductions) -> pd.DataFrame:
    return channels.regions_table(f.regions)


def optima(f: Reductions) -> pd.DataFrame:
    return optima_table(open_optima(f.store, f.of))


def similar(f: Reductions) -> pd.DataFrame:
    return similarity_table(f.store, resamples=f.resamples)


def nearest(f: Reductions) -> pd.DataFrame:
    if f.store.samples["patient"].nunique() < 2:
        raise Unanswerable("one patient: nearest samples are of other patients")
    return neighbours_table(f.store, layer=f.layer, nearest=f.nearest)


def projected(f: Reductions) -> pd.DataFrame:
    return projection_table(f.store, layer=f.layer, method=f.method, perplexity=f.perplexity)


def deletion(f: Reductions) -> pd.DataFrame:
    return deletion_table(EXPLANATIONS.all(f.store, f.of), resamples=f.resamples)


def randomisation(f: Reductions) -> pd.DataFrame:
    return randomisation_table(EXPLANATIONS.all(f.store, f.of), resamples=f.resamples)


def landmarks(f: Reductions) -> pd.DataFrame:
    return landmarks_table(EXPLANATIONS.all(f.store, f.of), resamples=f.resamples)


def effects(f: Reductions) -> pd.DataFrame:
    return interventions.effects_table(f.interventions, resamples=f.resamples)


def rankings(f: Reductions) -> pd.DataFrame:
    return ranked.rankings_table(f.interventions, f.member, f.network["mad"])


def agreement(f: Reductions) -> pd.DataFrame:
    return ranked.agreement_table(f.interventions, f.member, f.network["mad"], f.most, resamples=f.resamples)


def cumulative(f: Reductions) -> pd.DataFrame:
    return interventions.cumulative_table(f.interventions, resamples=f.resamples)


def areas(f: Reductions) -> pd.DataFrame:
    return interventions.areas_table(f.interventions, resamples=f.resamples)


def certain_frequency(f: Reductions) -> pd.DataFrame:
    return certainty.certainty_table(f.score, f.top, f.most, applicable=f.applicable, resamples=f.resamples)


def stability(f: Reductions) -> pd.DataFrame:
    mosts = sorted({f.top, f.most})
    return certainty.stability_table(f.score, f.top, mosts, applicable=f.applicable, resamples=f.resamples)


def sensitivity(f: Reductions) -> pd.DataFrame:
    return certainty.sensitivity_table(f.score, reference=(f.top, f.most), applicable=f.applicable)


def heterogeneity(f: Reductions) -> pd.DataFrame:
    return certainty.heterogeneity_table(f.score, f.top, applicable=f.applicable)


def leave_one_out(f: Reductions) -> pd.DataFrame:
    return certainty.leave_one_out_table(f.score, f.top, f.most, applicable=f.applicable)


def against_controls(f: Reductions) -> pd.DataFrame:
    return controls.controls_table(f.network["mad"], rescaled=f.rescaling != 1)


def rescaling(f: Reductions) -> pd.DataFrame:
    return controls.rescaling_table(f.rescaling, applicable=f.applicable)


def noise(f: Reductions) -> pd.DataFrame:
    return controls.noise_table(f.network["mad"])


def association(f: Reductions) -> pd.DataFrame:
    size = class_size(f.confusion, regions=f.store.members)
    return controls.association_table(f.network["mad"], f.dice, f.member, size=size, applicable=f.applicable)


def dose(f: Reductions) -> pd.DataFrame:
    return doses.dose_table(f.averaged_dice, applicable=f.applicable, resamples=f.resamples)


def dose_half(f: Reductions) -> pd.DataFrame:
    return doses.dose_half_table(f.averaged_dice, applicable=f.applicable, resamples=f.resamples)


def dose_channels(f: Reductions) -> pd.DataFrame:
    return doses.dose_channels_table(f.network["mad"], pooled_std(f.network), applicable=f.applicable)


def dose_cases(f: Reductions) -> pd.DataFrame:
    return doses.dose_cases_table(f.cases, applicable=f.applicable)
