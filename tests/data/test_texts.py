import pytest

from ziggurat.data.loading import load
from ziggurat.data.texts import synset

LINE = (
    "02084071 05 n 03 dog 0 domestic_dog 0 Canis_familiaris 0 003 @ 02083346 n 0000 @i 01317541 n 0000 ~ 01322604 n 0000 "
    '| a member of the genus Canis; occurs in many breeds; "the dog barked all night"  '
)


def test_a_line_of_wordnet():
    dog = synset(LINE)
    assert (dog.offset, dog.word, dog.lexicographer) == (2084071, "dog", 5)
    assert dog.gloss == "a member of the genus Canis; occurs in many breeds"
    assert dog.hypernyms == (2083346, 1317541)


@pytest.mark.parametrize("name", ["wordnet_glosses", "shroom"])
def test_texts_known_by_name(name):
    try:
        texts = load(name)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    if name == "shroom":
        assert len(texts) == 80 + 501 + 499 + 1500 + 1500 and {"hyp", "tgt", "labels"} <= set(texts[0])
        assert len(load(name, "test_agnostic")) == 1500
    else:
        assert len(texts) == 82_115 and texts[0].word == "entity"
