"""Made films: identities, what is seen of them, and that a frame depends on its number alone."""

import numpy as np
import pytest

from graphpose.data.demo.film import DemoFilm
from graphpose.errors import GraphposeError


@pytest.fixture(scope="module")
def film():
    return DemoFilm(40, seed=1, size=120, persons=5)


def test_a_frame_depends_on_its_number_alone(film):
    again = DemoFilm(40, seed=1, size=120, persons=5)
    backwards = [again[i] for i in (7, 3)]
    for sample, index in zip(backwards, (7, 3), strict=True):
        assert np.array_equal(sample.image, film[index].image)
        assert np.array_equal(sample.persons.keypoints, film[index].persons.keypoints)


def test_identities_are_those_of_persons_who_move_smoothly(film):
    last = {}
    for index in range(len(film)):
        persons = film.persons(index)
        assert len(set(persons.ids.tolist())) == len(persons)
        hips = persons.keypoints[:, 11:13, :2].mean(axis=1)
        labels = persons.keypoints[:, 11:13, 2].all(axis=1)
        for identity, hip, labelled in zip(persons.ids.tolist(), hips, labels, strict=True):
            if identity in last and last[identity][0] == index - 1 and labelled:
                assert np.abs(hip - last[identity][1]).max() < 0.06 * film.size
            if labelled:
                last[identity] = (index, hip)
    assert len(last) == 5


def test_impossible_films_are_refused():
    for settings in ({"length": 0}, {"length": 1, "persons": 0}, {"length": 1, "persons": 16}):
        with pytest.raises(GraphposeError, match="a film of"):
            DemoFilm(**settings)
    with pytest.raises(IndexError):
        DemoFilm(1)[1]
