// Tables: of results as the experiment asks for them, of stages, of metrics by class.

import {h} from './dom.js';
import {METRIC_TITLES, percent} from './format.js';
import {stageLink} from './links.js';
import {progressOf, stateText} from './state.js';

// A table in a box of its own that scrolls; `focus` keeps the focus there when the box is drawn again.
export function scrolling(label, table, focus = null) {
  const box = {class: 'scroll', tabindex: 0, role: 'region', 'aria-label': label, 'data-focus': focus};
  return h('div', box, table);
}

export function headings(texts, numbers = []) {
  const cells = [
    texts.map((text) => h('th', {scope: 'col'}, text)),
    numbers.map((text) => h('th', {scope: 'col', class: 'number'}, text)),
  ];
  return h('thead', {}, h('tr', {}, cells));
}

// Rows that become blocks on a narrow screen, where `data-title` names what no heading names any more.
export function stacked(caption, head, rows) {
  return h('table', {class: 'stacked'}, caption ? h('caption', {}, caption) : null, head, h('tbody', {}, rows));
}

function meanText({mean, standard_deviation: spread}) {
  if (mean === null) return '–';
  return mean.toFixed(1) + (spread === null ? '' : ` ± ${spread.toFixed(1)}`);
}

// A 95 % interval in per cent, beside its value; null: there is none.
function interval(ends) {
  if (!ends) return null;
  return h('span', {class: 'faint'}, ` [${ends.map((end) => end.toFixed(1)).join(', ')}]`);
}

function resultCell(one) {
  const partial = one.trials > 1 && one.trials_done < one.trials && one.mean !== null;
  return h(
    'td',
    {class: 'number' + (one.best ? ' best' : ''), title: one.reason || null},
    meanText(one),
    interval(one.interval),
    partial ? ` [${one.trials_done} of ${one.trials}]` : '',
    one.best ? h('span', {class: 'faint', title: 'best of its column'}, ' ★') : null,
    typeof one.paper === 'number' ? h('span', {class: 'paper'}, `paper ${one.paper.toFixed(1)}`) : null
  );
}

// One of GET .../tables.
export function resultTable(table) {
  const row = ({label, note, cells}) => {
    const head = h('th', {scope: 'row'}, label, note ? h('sup', {}, note) : null);
    return h('tr', {}, head, cells.map(resultCell));
  };
  const drawn =
    h('table',
      {},
      h('caption', {}, `${table.title} (%)`),
      headings([table.row_heading || ''], table.columns),
      h('tbody', {}, table.rows.map(row)));
  const notes = (table.notes || []).map((note) => h('p', {class: 'faint'}, note));
  return [scrolling(table.title, drawn, 'table ' + table.title), notes];
}

function stageRow(stage) {
  const news = stage.state === 'running' ? progressOf(stage.progress) : stage.reason || '–';
  return h(
    'tr',
    {},
    h('td', {}, stageLink(stage.stage, stage.label), h('br'), h('span', {class: 'key faint'}, stage.stage)),
    h('td', {}, stateText(stage.state)),
    h('td', {'data-title': 'attempt'}, stage.attempt || '–'),
    h('td', {class: 'reason', 'data-progress': stage.stage}, news)
  );
}

export function stageTable(stages, caption) {
  if (!stages.length) return null;
  const head = headings(['stage', 'state', 'attempt', 'progress or reason']);
  return scrolling(caption, stacked(caption, head, stages.map(stageRow)), caption);
}

// The metrics of an evaluation, as result.json has them.
export function metricsTable(metrics, caption) {
  const classes = Object.entries(metrics.classes || {});
  const names = Object.keys(METRIC_TITLES).filter((name) => {
    return name in metrics || classes.some(([, values]) => name in values);
  });
  const row = (label, values) => {
    const {intervals = {}, reasons = {}} = values;
    const cell = (name) => {
      const ends = intervals[name] && intervals[name].map((end) => 100 * end);
      return h('td', {class: 'number', title: reasons[name] || null}, percent(values[name]), interval(ends));
    };
    return h('tr', {}, h('th', {scope: 'row'}, label), names.map(cell));
  };
  const rows = classes.map(([name, values]) => row(name, values));
  rows.push(row('mean', metrics));
  if (metrics.untrained) rows.push(row('mean, untrained', metrics.untrained));
  const head = headings(['class'], names.map((name) => METRIC_TITLES[name]));
  return scrolling(caption, h('table', {}, h('caption', {}, caption + ' (%)'), head, h('tbody', {}, rows)));
}
