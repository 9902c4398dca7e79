"""Will it fit? Memory of a training run by arithmetic: no torch, no weights, no time."""

from workers.estimate.geometry import Geometry, geometry_of, known_config, known_geometry

__all__ = ["Geometry", "geometry_of", "known_config", "known_geometry"]
