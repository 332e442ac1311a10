"""What the command line of the app says."""

from __future__ import annotations

import pytest

from common.deploy.monailabel.__main__ import main


def test_the_command_line_says_how_it_is_used_and_what_is_wrong(tmp_path):
    with pytest.raises(SystemExit, match="APP BUNDLE"):
        main([])
    with pytest.raises(SystemExit, match=r"error: .* is not a bundle"):
        main([str(tmp_path / "app"), str(tmp_path)])
