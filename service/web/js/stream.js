// Server-sent events.

import {request} from './api.js';

// Whether somebody can see this page. A browser opens six connections to a server at most, whatever the number of tabs:
// streams of tabs in the background, and of pages kept for "back", would leave none for the page that is looked at.
const presence = {
  left: false,
  listeners: new Set(),
  get shown() {
    return !document.hidden && !this.left;
  },
  changed() {
    for (const listener of [...this.listeners]) listener();
  },
};
document.addEventListener('visibilitychange', () => presence.changed());
for (const [event, left] of [['pagehide', true], ['pageshow', false]])
  window.addEventListener(event, () => {
    presence.left = left;
    presence.changed();
  });

// Calls onBlock(id, data) for each event that the response brings, until it ends.
async function readEvents(response, onBlock) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = '';
  for (;;) {
    const {value, done} = await reader.read();
    if (done) return;
    text += value;
    for (let end; (end = text.indexOf('\n\n')) >= 0; text = text.slice(end + 2)) {
      let id = '';
      let data = '';
      for (const line of text.slice(0, end).split('\n')) {
        if (line.startsWith('id: ')) id = line.slice(4);
        if (line.startsWith('data: ')) data += line.slice(6);
      }
      onBlock(id, data);
    }
  }
}

// Follows a stream by fetch, because EventSource cannot send the token in a header. Goes on after the last event when
// the connection is lost or the page was out of sight; `onState(connected, seconds until the next try)`. Returns what
// ends it.
export function follow(path, {lastId = '', onEvent, onState = () => {}}) {
  let stopped = false;
  let control = null;
  let wait = 1;
  let wakeUp = () => {};
  const look = () => {
    if (presence.shown)
      wakeUp();
    else if (control)
      control.abort();
  };

  // Throws what fetch throws; returns when the server ends the stream.
  const read = async () => {
    const headers = {Accept: 'text/event-stream', ...(lastId ? {'Last-Event-ID': lastId} : {})};
    const response = await request(path, {headers, signal: control.signal});
    onState(true, 0);
    wait = 1;
    await readEvents(response, (id, data) => {
      if (id) lastId = id;
      if (data && !stopped) onEvent(JSON.parse(data));
    });
  };

  const run = async () => {
    while (!stopped) {
      if (!presence.shown) {
        await new Promise((resolve) => (wakeUp = resolve));
        continue;
      }
      control = new AbortController();
      try {
        await read();
      } catch (problem) {
        if (problem.status === 401 || problem.status === 404) break;
      }
      if (stopped || !presence.shown) continue;
      onState(false, wait);
      await new Promise((resolve) => {
        wakeUp = resolve;
        setTimeout(resolve, wait * 1000);
      });
      wait = Math.min(wait * 2, 15);
    }
    presence.listeners.delete(look);
  };

  presence.listeners.add(look);
  run();
  return () => {
    stopped = true;
    if (control) control.abort();
    wakeUp();
  };
}
