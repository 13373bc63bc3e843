"""pytest imports every test file by its bare name."""

from __future__ import annotations

import collections

from package_source import ROOT, listed


def test_no_two_test_files_have_one_name() -> None:
    names = collections.Counter(
        path.name for path in (ROOT / 'tests').rglob('test_*.py')
    )
    twice = sorted(name for name, times in names.items() if times > 1)
    assert not twice, listed(twice)
