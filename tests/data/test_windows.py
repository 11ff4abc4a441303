"""Windows before a row, by hand."""

import numpy as np
import torch

from adasid_exp.data.windows import WindowTable, visible_rows, windows_before


def test_windows_by_hand(make_dataset):
    dataset = make_dataset([[3, 1, 4, 1], [5, 2]], items=6)
    mask = np.array([True, False, True, True, True, False])
    visible = visible_rows(dataset, mask)
    assert visible.items.tolist() == [3, 4, 1, 5]
    assert visible.first.tolist() == [0, 3, 4]
    # row 3 sees 3, 4 of its user; row 4 is its user's first; row 5 sees 5
    windows = windows_before(dataset, visible, np.array([3, 4, 5]), history=20)
    assert (windows.start.tolist(), windows.length.tolist()) == ([0, 3, 3], [2, 0, 1])
    assert windows_before(dataset, visible, np.array([3]), history=1).start.tolist() == [1]
    table = WindowTable(items=visible.items, windows=windows, device=torch.device("cpu"))
    items, valid, length = table.take(np.array([2, 0]), torch.tensor([2, 0]), extra=1)
    assert items.shape == (2, 3)  # as wide as the longer one, and one beyond
    assert valid.tolist() == [[True, False], [True, True]]
    assert items[1].tolist() == [3, 4, 1]
    assert (int(items[0, 0]), length.tolist()) == (5, [1, 2])
