"""The shape of the loss around the weights: tangent kernel, curvature, distance travelled."""
