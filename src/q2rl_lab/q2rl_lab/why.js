// SPDX-License-Identifier: Apache-2.0
// One cursor over film, plots and numbers of an episode: every tick is a column of all of them.
'use strict';
(() => {
  const data = JSON.parse(document.getElementById('data').textContent);
  const films = JSON.parse(document.getElementById('film').textContent);
  const last = data.t.length - 1;
  const style = getComputedStyle(document.documentElement);
  const colour = name => style.getPropertyValue(name).trim();
  const INK = colour('--ink'), SOFT = colour('--soft'), LINE = colour('--line');
  const HANDS = {
    BC: colour('--bc'), RL: colour('--rl'), HUMAN: colour('--gated'), HOLD: colour('--soft'),
  };
  const AXES = [colour('--alert'), colour('--gated'), colour('--rl'), colour('--bc')];
  const $ = id => document.getElementById(id);
  let now = 0, timer = null;
  const plots = [];

  // Film -----------------------------------------------------------------------------------
  const pictures = films.map(frame => {
    const image = new Image();
    image.src = 'data:image/webp;base64,' + frame;
    return image;
  });
  const screen = $('screen');
  const pen = screen ? screen.getContext('2d') : null;
  function show(k) {
    const image = pictures[Math.min(k, pictures.length - 1)];
    if (!image || !pen) return;
    if (image.complete) pen.drawImage(image, 0, 0, screen.width, screen.height);
    else image.decode().then(() => { if (k === now) show(k); }).catch(() => {});
  }

  // Numbers --------------------------------------------------------------------------------
  const number = (value, digits) => value === null || value === undefined ? '–' : value.toFixed(digits);
  function tell(k) {
    const at = name => data[name][k];
    const put = (id, text) => { $(id).textContent = text; };
    put('n-time', `${data.t[k].toFixed(2)} s`);
    put('n-tick', k === last ? `${k}, the end` : `${k} of ${last}`);
    put('n-who', at('source') || '–');
    $('n-who').style.color = HANDS[at('source')] || '';
    put('n-would', at('would_act') || 'not known');
    $('n-would').style.color = HANDS[at('would_act')] || '';
    put('n-reason', data.reasons[at('reason')] || '–');
    put('n-qbc', number(at('q_bc'), 2));
    put('n-qrl', number(at('q_rl'), 2));
    put('n-margin', number(at('margin'), 2));
    put('n-spread', number(at('q_spread'), 2));
    put('n-v', number(at('v_bc'), 2));
    put('n-density', `${number(at('bc_log_prob'), 1)} / ${number(at('bc_entropy'), 1)} nat`);
    put('n-force', `${number(at('force'), 1)} N`);
    put('n-depth', `${number(at('depth'), 1)} mm`);
    put('n-lateral', `${number(at('lateral'), 1)} mm`);
    const guard = at('interventions');
    put('n-guard', guard === null ? '–' : guard.length ? guard.join(', ') : 'nothing');
    put('n-versions', `${number(at('actor_version'), 0)} / ${number(at('critic_version'), 0)} / ` +
      number(at('value_version'), 0));
    for (const kind of data.kinds) {
      data.components.forEach((_, c) => {
        const vector = data.actions[kind][c];
        put(`n-${kind}-${c}`, number(vector[k], 2));
      });
    }
  }

  // Plots ----------------------------------------------------------------------------------
  const grid = { stroke: LINE, width: 1 };
  const ticks = { stroke: LINE, width: 1, size: 4 };
  const font = '11px system-ui, sans-serif';
  const axis = (more) => ({ stroke: SOFT, grid, ticks, font, ...more });
  function plot(title, series, columns, height, more = {}) {
    const box = document.createElement('figure');
    const caption = document.createElement('figcaption');
    caption.append(title, ...(more.control ? [more.control] : []));
    box.append(caption);
    $('plots').append(box);
    const options = {
      width: Math.max(320, box.clientWidth - 24), height,
      padding: [8, 14, 0, 0],
      series: [{ label: 't', value: (_, v) => v === null ? '–' : `${v.toFixed(2)} s` }, ...series],
      scales: { x: { time: false }, y: more.scale || {} },
      // All plots share their left edge, and so the cursor is one line through them.
      axes: [axis({ size: more.clock ? 22 : 6, values: (_, at) => at.map(v => more.clock ? `${v} s` : '') }),
        axis({ size: 62, gap: 3, ...more.axis })],
      legend: { show: series.length > 0, markers: { width: 2 }, mount: (_, legend) => caption.append(legend) },
      // One rule for all plots: the mouse chooses a tick (below), so the library's own following is off.
      cursor: { drag: { x: false, y: false }, y: false, points: { size: 6 },
        bind: { mousemove: () => null, mouseleave: () => null, mouseenter: () => null } },
      hooks: { draw: [events, ...(more.draw || [])] },
    };
    const made = new uPlot(options, [data.t, ...columns], box);
    made.over.addEventListener('pointermove', event => {
      stop();
      go(made.posToIdx(event.clientX - made.over.getBoundingClientRect().left));
    });
    plots.push(made);
    return made;
  }
  const line = (label, stroke, more = {}) => ({
    label, stroke, width: 1.6, points: { show: false }, spanGaps: false,
    value: (_, v) => v === null || v === undefined ? '–' : v.toFixed(2), ...more,
  });

  // Where who acts changes, through all plots.
  function events(u) {
    const { ctx } = u, { top, height } = u.bbox;
    ctx.save();
    ctx.globalAlpha = 0.35;
    for (const k of data.changes) {
      const x = Math.round(u.valToPos(data.t[k], 'x', true));
      ctx.fillStyle = HANDS[data.source[k]] || SOFT;
      ctx.fillRect(x, top, Math.max(1, devicePixelRatio), height);
    }
    ctx.restore();
  }
  const level = (value, stroke, text) => u => {
    const { ctx } = u, y = u.valToPos(value, 'y', true), { left, width, top } = u.bbox;
    if (y < top || value === null) return;
    ctx.save();
    ctx.strokeStyle = ctx.fillStyle = stroke;
    ctx.setLineDash([4, 4]);
    ctx.beginPath(); ctx.moveTo(left, y); ctx.lineTo(left + width, y); ctx.stroke();
    ctx.font = `${11 * devicePixelRatio}px system-ui, sans-serif`;
    ctx.textAlign = 'left';
    ctx.textBaseline = 'bottom';
    ctx.fillText(text, left + 4, y - 2);
    ctx.restore();
  };

  // Lanes: who acts, whom the gate prefers, what the guard did, which weights.
  const lanes = [
    ['acts', k => HANDS[data.source[k]]],
    ['prefers', k => HANDS[data.would_act[k]]],
    ['guard', k => data.limited[k] ? AXES[0] : data.lead[k] ? LINE : null],
    ['weights', k => data.actor_version[k] === null ? null : data.actor_version[k] % 2 ? SOFT : LINE],
  ];
  function paintLanes(u) {
    const { ctx } = u, { left, top, width, height } = u.bbox;
    const row = height / lanes.length;
    const end = left + width;
    lanes.forEach(([, of], lane) => {
      for (let k = 0; k < last; k++) {
        const fill = of(k);
        if (!fill) continue;
        const from = u.valToPos(data.t[k], 'x', true);
        const to = Math.min(end, u.valToPos(data.t[k + 1], 'x', true));
        ctx.fillStyle = fill;
        ctx.fillRect(from, top + lane * row + 2, Math.max(1, to - from + 0.5), row - 4);
      }
    });
  }
  const key = document.createElement('span');
  key.className = 'key';
  key.innerHTML = ['BC', 'RL', 'HUMAN', 'HOLD'].filter(name => data.source.includes(name) || name < 'H' || name === 'RL')
    .map(name => `<i style="background:${HANDS[name]}"></i>${name === 'HUMAN' ? 'a person' : name}`).join('') +
    `<i style="background:${AXES[0]}"></i>guard limits<i style="background:${LINE}"></i>guard shortens the lead`;
  plot('Who acts, whom the gate prefers', [],
    [data.t.map(() => null)], 96, {
      control: key, clock: true,
      scale: { range: () => [0, lanes.length] },
      axis: {
        splits: () => lanes.map((_, k) => lanes.length - k - 0.5),
        values: () => lanes.map(([name]) => name), grid: { show: false }, ticks: { show: false },
      },
      draw: [paintLanes],
    });
  plot('Values [reward]', [
    line('Q_BC', HANDS.BC), line('Q_RL', HANDS.RL), line('V_BC', SOFT, { dash: [5, 4] }),
  ], [data.q_bc, data.q_rl, data.v_bc], 104);
  plot('What RL is better by, and how far its critics are apart', [
    line('Q_RL − Q_BC', colour('--gated')), line('ensemble spread', SOFT, { dash: [3, 3] }),
  ], [data.margin, data.q_spread], 88, { draw: [level(0, SOFT, '')] });
  plot('Contact force, largest since the tick before [N]', [line('force', colour('--alert'))], [data.force], 96, {
    scale: { range: (_, low, high) => [0, Math.max(1.05 * data.limits.force_stop, high || 0)] },
    draw: [level(data.limits.force_soften, SOFT, 'soften'), level(data.limits.force_stop, AXES[0], 'stop')],
  });
  if (data.depth.some(v => v !== null)) {
    plot('Tip in the estimated frame [mm]: depth below the rim, distance from the axis', [
      line('depth', INK), line('off the axis', colour('--bc')),
    ], [data.depth, data.lateral], 92, { draw: [level(0, SOFT, 'rim')] });
  }
  const pick = document.createElement('select');
  pick.id = 'kind';
  pick.title = 'Whose action';
  pick.innerHTML = data.kinds.map(kind => `<option value="${kind}">${data.kind_names[kind]}</option>`).join('');
  const groups = data.groups.map((group, k) => [group, plot(
    `${group.title}`, group.components.map((c, n) => line(data.components[c], AXES[n % AXES.length])),
    group.components.map(c => data.actions.chosen[c]), k + 1 < data.groups.length ? 88 : 106,
    { scale: { range: () => [-1.05, 1.05] }, control: k ? undefined : pick, clock: k + 1 === data.groups.length },
  )]);
  pick.addEventListener('change', () => {
    for (const [group, made] of groups) {
      made.setData([data.t, ...group.components.map(c => data.actions[pick.value][c])]);
    }
    pick.blur();
    go(now);
  });

  // One cursor -----------------------------------------------------------------------------
  function go(k) {
    now = Math.max(0, Math.min(last, k));
    for (const made of plots) {
      const left = made.valToPos(data.t[now], 'x');
      made.setCursor({ left, top: made.over.clientHeight / 2 }, false);
    }
    show(now);
    tell(now);
    $('slider').value = now;
  }
  function stop() {
    clearInterval(timer);
    timer = null;
    $('play').textContent = '▶';
  }
  function play() {
    if (timer) return stop();
    if (now === last) go(0);
    $('play').textContent = '❚❚';
    timer = setInterval(() => { if (now >= last) stop(); else go(now + 1); },
      1000 * data.period / Number($('pace').value));
  }
  const marks = data.marks;
  const onward = () => marks.find(k => k > now);
  const back = () => marks.filter(k => k < now).pop();
  const jump = k => { stop(); if (k !== undefined) go(k); };
  const keys = {
    ArrowRight: e => { stop(); go(now + (e.shiftKey ? 10 : 1)); },
    ArrowLeft: e => { stop(); go(now - (e.shiftKey ? 10 : 1)); },
    Home: () => jump(0), End: () => jump(last), ' ': play,
    n: () => jump(onward()), p: () => jump(back()),
  };
  document.addEventListener('keydown', event => {
    const act = keys[event.key];
    if (!act || event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === 'SELECT') return;
    event.preventDefault();
    act(event);
  });
  $('slider').max = last;
  $('slider').addEventListener('input', event => { stop(); go(Number(event.target.value)); });
  $('play').addEventListener('click', event => { event.currentTarget.blur(); play(); });
  $('pace').addEventListener('change', event => {
    event.currentTarget.blur();
    if (timer) { stop(); play(); }
  });
  $('next').addEventListener('click', () => jump(onward()));
  $('previous').addEventListener('click', () => jump(back()));
  document.querySelectorAll('[data-tick]').forEach(link => link.addEventListener('click', event => {
    event.preventDefault();
    jump(Number(link.dataset.tick));
  }));
  addEventListener('resize', () => {
    for (const made of plots) {
      made.setSize({ width: Math.max(320, made.root.parentElement.clientWidth - 24), height: made.height });
    }
    go(now);
  });
  addEventListener('hashchange', () => go(Number(location.hash.slice(1)) || 0));
  go(location.hash ? Number(location.hash.slice(1)) || 0 : data.start);
})();
