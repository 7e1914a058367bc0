"""What the loss looks like around the weights: tangent kernel, curvature, distance travelled."""
