from tokenyield_agent.windows.timeline import Timeline

S = 1_000_000_000


def test_time_runs_with_the_monotonic_clock() -> None:
    timeline = Timeline(100 * S, 5000 * S)
    assert timeline.now_ms(101 * S) == 5_001_000


def test_noise_and_slewing_are_no_steps() -> None:
    timeline = Timeline(100 * S, 5000 * S)
    assert timeline.step_ms(101 * S, 5001 * S + S // 10) == 0
    assert timeline.steps == 0


def test_a_step_is_noticed_once_and_believed() -> None:
    timeline = Timeline(100 * S, 5000 * S)
    assert timeline.step_ms(101 * S, 1401 * S) == -3_600_000
    assert timeline.now_ms(101 * S) == 1_401_000
    assert timeline.step_ms(102 * S, 1402 * S) == 0
    assert timeline.steps == 1
