// Numbers, times and counts in words.

// With the sign that tells a state apart without its colour.
export const STATES = {
  waiting: '·',
  queued: '…',
  running: '▶',
  done: '✓',
  failed: '✕',
  blocked: '⊘',
  stopped: '■',
  cancelled: '–',
};

export const METRIC_TITLES = {
  image_auroc: 'image AUROC',
  image_ap: 'image AP',
  image_f1_max: 'image F1-max',
  pixel_auroc: 'pixel AUROC',
  pixel_ap: 'pixel AP',
  pixel_f1_max: 'pixel F1-max',
  aupro: 'AUPRO',
  'aupro_at_0.05': 'AUPRO at 0.05',
};

export const count = (number) => number.toLocaleString('en');
export const plural = (number, word) => `${count(number)} ${word}${number === 1 ? '' : 's'}`;
export const percent = (value) => (typeof value === 'number' ? (100 * value).toFixed(1) : '–');
export const localTime = (seconds) => (seconds ? new Date(seconds * 1000).toLocaleString() : '–');

export function bytesText(bytes) {
  if (bytes === null || bytes === undefined) return '–';
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let unit = 0;
  for (; bytes >= 1000 && unit < 4; ++unit) bytes /= 1000;
  return `${unit === 0 ? bytes : bytes.toFixed(1)} ${units[unit]}`;
}

// "3 of 24 trials done, 2 running, 1 failed" of {total, done, states}.
export function countsText(progress, word) {
  const others = Object.entries(progress.states).filter(([state]) => state !== 'done');
  const rest = others.map(([state, number]) => `, ${count(number)} ${state}`).join('');
  return `${count(progress.done)} of ${plural(progress.total, word)} done${rest}`;
}
