"""The toy language of the graph's tests."""

from tests.graph.conftest import arpa_path, toy

__all__ = ["arpa_path", "toy"]
