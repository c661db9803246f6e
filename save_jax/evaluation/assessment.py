"""The final evaluation of a split: the headline numbers, checks of their validity, and where they come from."""

import jax
import numpy as np

from save_jax.evaluation import audit, breakdown
from save_jax.evaluation.contract import Evaluation, Evaluator
from save_jax.evaluation.retrieval import RetrievalEvaluator
from save_jax.judge import metrics, protocols, signature


def assess_common(evaluator: Evaluator, params: dict, split: str, evaluation: Evaluation) -> Evaluation:
    """What the results of every method have in addition to those of `Evaluator.run`, which gave `evaluation`.

    Returns:
        The evaluation, whose results have in addition
        protocol: what was measured, and departures from it (protocols.describe), and its "signature";
        audit: a check on a sample that embeddings do not depend on captions, order and batch (audit.audit);
        intervals: {"t2v", …: {metric: [low, high]}} for every direction from text: bootstrap, 95 %, over videos with
            their queries.
    Raises:
        LeakError if the audit fails; ValueError for scores that are not finite.
    """
    results, info = evaluation.results, evaluation.info
    corpus, failed = evaluator.data.manifest["corpus"], list(info.gallery["failed"])
    results["protocol"] = protocols.describe(
        corpus, split, len(info.ids), info.caption_to_video, ids=info.ids, texts=info.captions, failed=failed
    )
    results["protocol"]["signature"] = signature.line(results["protocol"], picked_on=evaluator.config.data.val_split)
    results["audit"] = audit.audit(evaluator, params, split, evaluation.videos)
    results["intervals"] = {
        direction: metrics.intervals(metrics.ranks(scores, info.caption_to_video), info.caption_to_video)
        for direction, scores in evaluation.scores.items()
    }
    return evaluation


def assess(evaluator: RetrievalEvaluator, params: dict, split: str, bank_split: str | None = None) -> Evaluation:
    """`assess_common`, and where the numbers of SAVE, AVIGATE or vision come from.

    Args:
        bank_split: its captions are the query bank of querybank normalisation. None, or the split itself, leaves that
            out.
    Returns:
        The evaluation, whose results have in addition
        intervals: also of "v2t", and for each of the groups, text→video;
        groups_are: "from the corpus", or "automatic, by words of the captions" if the corpus names none;
        by_video: text→video by what the right video has;
        without_modalities: results with sound or speech removed or exchanged;
        post_processed: other rankings of the same scores, each with "uses": what it uses besides the one query.
    Raises:
        LeakError if the audit fails; ValueError for scores that are not finite.
    """
    without_modalities = evaluator.config.evaluation.without_modalities
    evaluation = evaluator.run(params, split, keep_tokens=without_modalities)
    assess_common(evaluator, params, split, evaluation)
    results, info, scores = evaluation.results, evaluation.info, evaluation.scores["t2v"]
    groups = info.groups
    results["groups_are"] = "from the corpus"
    if not any(groups):
        groups = breakdown.automatic_groups(info.captions)
        results["groups_are"] = "automatic, by words of the captions"
        results["groups"] = metrics.retrieval(scores, info.caption_to_video, groups)["groups"]
    ranks = metrics.ranks(scores, info.caption_to_video)
    captioned, own = np.unique(info.caption_to_video, return_inverse=True)
    of_captioned = scores if len(captioned) == scores.shape[1] else scores[:, captioned]
    results["intervals"]["v2t"] = metrics.intervals(metrics.video_to_text_ranks(of_captioned, own), captioned)
    for name, group in results["groups"].items():
        members = np.array([group_of_query == name for group_of_query in groups])
        group["intervals"] = {"t2v": metrics.intervals(ranks[members], info.caption_to_video[members])}
    results["by_video"] = breakdown.by_video(ranks, info)
    results["without_modalities"] = (
        breakdown.without_modalities(evaluator, params, evaluation, groups) if without_modalities else {}
    )
    # Published temperatures assume scores of scale 100, where CLIP's training ended. Other training ends elsewhere.
    scale = float(np.exp(jax.device_get(params["logit_scale"])))
    results["post_processed"] = {
        "dual softmax": {
            "uses": "all queries of the test at once",
            "t2v": metrics.summary(
                metrics.ranks(metrics.dual_softmax(scores, temperature=0.03 * scale), info.caption_to_video)
            ),
        }
    }
    if bank_split and bank_split != split and (bank_texts := evaluator.data.info(bank_split).captions):
        bank = evaluator.score(params, evaluator.embed_texts(params, bank_texts), evaluation.videos)
        results["post_processed"]["querybank"] = {
            "uses": f"all {len(bank_texts)} captions of the {bank_split} split as bank",
            "t2v": metrics.summary(metrics.ranks(metrics.querybank(scores, bank, scale / 20), info.caption_to_video)),
        }
    return evaluation
