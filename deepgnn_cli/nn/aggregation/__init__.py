"""Aggregation over the neighbours without a tensor of E × C: sparse products, and blocks of targets where those fail.

`products` multiplies by a sparse matrix; `edges` holds a graph's edges in the order that all of it reads; `softmax`,
`power` and `maximum` aggregate messages that depend on their source alone; `attention` weighs edges by coefficients of
its own for each head; `edge_blocks` serves messages that differ from edge to edge; `operators` is where PyG's convs
find their faster twin.

Everything is deterministic on a CPU (a reversible stack evaluates a branch twice and needs the same bits), computes
in single or double precision whatever autocast says, and keeps O(N·C + E·heads) for the backward pass.
"""
