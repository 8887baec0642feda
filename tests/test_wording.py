from lowdim._names import short_names
from lowdim._warnings import merged


def test_equal_warnings_of_many_layers_are_one_with_its_range():
    many = [f"train, blocks.{i}.0 (avg): {60 + i}% of NC1 lies in noise; 5 samples." for i in range(23)]
    assert merged([*many, "Something else: 3."]) == [
        "23 places (train blocks.0.0 (avg), train blocks.1.0 (avg), train blocks.2.0 (avg) and 20 more): "
        "60 to 82% of NC1 lies in noise; 5 samples.",
        "Something else: 3.",
    ]


def test_what_differs_in_words_stays_apart():
    assert merged(["a: too few", "a: too many"]) == ["a: too few", "a: too many"]
    assert merged(["conv2d: 3", "conv3d: 3"]) == ["2 places (conv2d and conv3d): 3"]


def test_short_names_differ_and_keep_order():
    names = ["/x/run1/best.npz", "/x/run2/best.npz", "/x/run1/best.npz", "hf:org/model", "cat/dog"]
    assert short_names(names) == ["run1/best.npz", "run2/best.npz", "run1/best.npz", "hf:org/model", "cat/dog"]
