# SPDX-License-Identifier: Apache-2.0
"""The experimenter's desk: the command line, training in one process, evaluation, benchmarks, reports.

Modules by subject:

- the command line: `cli`, `commands/` (a module a verb), `console`, `progress`, `display`, `browser`, `workspace`
- a run through the nodes: `start_check`, `up_run`, `supervisor`, `ros_environment`, `watch`, `run_view`,
  `operator_call` (stop and hold from another terminal)
- a run in one process: `learn_run`, `in_process`, `kept_run` (what it goes on from), `cell`
- what every run has: `begin_run`, `task_check`, `run_folder`, `preparation`, `prepare_run` (for a launch),
  `hand_recording` (a person's demonstrations), `recording`, `run_data`, `finish`, `result`, `report`, `plots`, `clips`
- evaluation: `evaluation`, `recorded_evaluation`, `statistics`
- one episode explained, and RL in the shadow: `why_files`, `why_page`, `episode_ticks`, `episode_story`, `film`,
  `trace_pictures`; `shadow_run`, `shadow_files`, `shadow_result`, `shadow_page`
- a policy made elsewhere: `adoption_order`, `adopting`, `adoption`, `candidates`
- benchmarks of learning: `bench_suites`, `bench_run`, `bench_pool`, `bench_results`, `code_version`, `bench_report`,
  `bench_statistics`, `bench_page`, `bench_figures`, `tiny_task`; `drift_trial` (what the watch over weights and task
  is worth)
- other people's tasks: `suite_file` and `suites/`, `gym_task`, `gym_scaling`, `gym_cell`, `gym_demonstrations`,
  `gym_process`, and `foreign/`, which runs under the interpreter of those tasks and imports nothing of q2rl
- checks: `checks` (of the doctor), `outcomes` (of tests), `prove` (protections taken out), `time_to_stop`,
  `update_rate`

`vendor/` holds the plotting library that is written into pages.
"""
