# SPDX-License-Identifier: Apache-2.0
"""Domains and shared memory."""

from __future__ import annotations

import fcntl
import os
import socket

import pytest

from q2rl_lab import ros_environment
from q2rl_lab.ros_environment import (
    Domain,
    busy_domains,
    node_environment,
    remove_stale_segments,
    require_free_port,
    stale_segments,
)
from q2rl_task.errors import InputError


def test_two_domains_taken_at_once_differ():
    first, second = Domain(), Domain()
    try:
        assert first.number != second.number
        assert {first.number, second.number} <= set(ros_environment.DOMAINS)
    finally:
        first.release()
        second.release()


def test_a_taken_domain_is_refused_and_free_again_after_release():
    first = Domain()
    with pytest.raises(InputError, match='in use'):
        Domain(first.number)
    first.release()
    again = Domain(first.number)
    again.release()


def test_a_domain_with_a_bound_port_is_busy():
    free = Domain()
    free.release()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.bind(('127.0.0.1', 7400 + 250 * free.number + 10))
        assert free.number in busy_domains()
        with pytest.raises(InputError):
            Domain(free.number)


def test_a_port_that_something_listens_on_is_refused_by_the_option_that_named_it():
    with socket.create_server(('127.0.0.1', 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(InputError, match=f'--browser-port: port {port} cannot be used'):
            require_free_port('--browser-port', port)
    require_free_port('--browser-port', port)


def test_the_nodes_environment_is_local_and_single_threaded():
    environment = node_environment(
        7, {'PATH': '/bin', 'ROS_LOCALHOST_ONLY': '1', 'ROS_DOMAIN_ID': '3'}
    )
    assert environment['ROS_DOMAIN_ID'] == '7'
    assert environment['ROS_AUTOMATIC_DISCOVERY_RANGE'] == 'LOCALHOST'
    assert environment['OMP_NUM_THREADS'] == '1'
    assert environment['PATH'] == '/bin'
    assert 'ROS_LOCALHOST_ONLY' not in environment


@pytest.fixture
def segments(tmp_path, monkeypatch):
    monkeypatch.setattr(ros_environment, 'YOUNG_S', 0.0)
    for name in (
        'fastrtps_a',
        'fastrtps_a_el',
        'fastrtps_b',
        'fastrtps_b_el',
        'sem.fastrtps_port7413_mutex',
        'foreign',
    ):
        (tmp_path / name).write_bytes(b'x')
    return tmp_path


def names(paths):
    return {path.name for path in paths}


def test_only_segments_of_fast_dds_are_stale(segments):
    assert names(stale_segments(segments)) == {
        'fastrtps_a',
        'fastrtps_a_el',
        'fastrtps_b',
        'fastrtps_b_el',
        'sem.fastrtps_port7413_mutex',
    }


def test_a_segment_that_a_process_has_open_stays_with_its_lock_file(segments):
    with (segments / 'fastrtps_b').open('rb'):
        assert names(stale_segments(segments)) == {
            'fastrtps_a',
            'fastrtps_a_el',
            'sem.fastrtps_port7413_mutex',
        }


def test_a_segment_whose_lock_is_held_stays(segments, monkeypatch):
    # As a process of another container shows: not in /proc, but its lock is held.
    monkeypatch.setattr(ros_environment, '_names_in_use', lambda folder: set())
    with (segments / 'fastrtps_a_el').open('rb') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert 'fastrtps_a' not in names(stale_segments(segments))
        assert 'fastrtps_b' in names(stale_segments(segments))


def test_young_segments_stay(segments, monkeypatch):
    monkeypatch.setattr(ros_environment, 'YOUNG_S', 3600.0)
    assert stale_segments(segments) == []


def test_removal_leaves_the_rest(segments):
    assert remove_stale_segments(segments) == 5
    assert os.listdir(segments) == ['foreign']


def test_no_shared_memory_at_all(tmp_path):
    assert stale_segments(tmp_path / 'none') == []
