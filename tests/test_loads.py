from minimind import loads

LINE = {"loss": 0.0, "load_1_0": 0.5, "load_0_1": 2.0, "load_0_0": 0.0, "load_1_1": 0.0099, "validation_load_0_0": 0.0}


def test_loads_are_sorted_into_layers_and_experts() -> None:
    assert loads.loads(LINE) == ["load_1_0", "load_0_1", "load_0_0", "load_1_1"]
    assert loads.table(LINE) == [[0.0, 2.0], [0.5, 0.0099]]
    assert loads.table({"loss": 1.0}) == []
    many = {f"load_{layer}_{expert}": layer + expert / 100 for layer in range(12) for expert in range(12)}
    assert loads.table(many)[11] == [11 + expert / 100 for expert in range(12)]


def test_the_dead_are_named() -> None:
    assert loads.dead(LINE) == ["expert 0 of layer 0", "expert 1 of layer 1"]
    assert loads.dead({"load_0_0": 0.01}) == []
