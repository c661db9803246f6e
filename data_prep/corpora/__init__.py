"""Corpora in the layouts that their authors publish.

Only annotations are read here; that a video is missing or broken is found, clip by clip, when it is prepared.
"""

from data_prep.corpora.msrvtt import read_msrvtt
from data_prep.corpora.sample import Corpus, Sample

__all__ = ["CORPORA", "Corpus", "Sample"]

CORPORA = {
    corpus.name: corpus
    for corpus in (
        Corpus("demo", image_size=64, max_frames=12, read=read_msrvtt, learn_tokenizer=True),
        Corpus("msrvtt-9k", image_size=224, max_frames=12, read=read_msrvtt),
    )
}
