// The page that is shown, and what keeps it up to date: the stream of the workspace's events.

import {API, Refused} from './api.js';
import {showProblem} from './dom.js';
import {follow} from './stream.js';

let page = null;  // {title, refresh(), progress(stages), leave()}: the last two where it has them
let refreshing = null;
let stopWorkspace = null;

export const isShown = (one) => page === one;

export function enter(next) {
  page = next;
}

export function leave() {
  if (page && page.leave) page.leave();
  page = null;
}

// At most once a second, and once more when something came meanwhile.
export function refreshSoon(delay = 300) {
  if (refreshing) {
    refreshing.again = true;
  } else {
    refreshing = {again: false};
    setTimeout(refresh, delay);
  }
}

async function refresh() {
  const state = refreshing;
  state.again = false;
  try {
    if (page) await page.refresh();
  } catch (problem) {
    if (problem instanceof Refused && problem.status !== 401) showProblem(problem.message);
  }
  setTimeout(() => {
    if (refreshing !== state) return;
    refreshing = null;
    if (state.again) refreshSoon();
  }, 1000);
}

function showConnection(connected, seconds) {
  const line = document.getElementById('connection');
  line.className = connected ? '' : 'offline';
  line.textContent = connected ? 'live' : `offline – the server does not answer; trying again every ${seconds} s`;
  document.documentElement.dataset.connected = connected;
}

export function followWorkspace() {
  stopFollowing();
  stopWorkspace = follow(API + '/events', {
    onState: (connected, seconds) => {
      showConnection(connected, seconds);
      if (connected) refreshSoon(0);
    },
    onEvent: (event) => {
      if (event.event === 'progress' && page && page.progress) page.progress(event.stages);
      if (event.event === 'stages' || event.event === 'reset') refreshSoon();
    },
  });
}

export function stopFollowing() {
  if (stopWorkspace) stopWorkspace();
  stopWorkspace = null;
}
