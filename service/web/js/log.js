// The log of one attempt, followed while it is written.

import {request, stagePath} from './api.js';
import {h} from './dom.js';
import {bytesText} from './format.js';

const MOST_LINES = 5000;
const LINES_KEPT = 4000;

export class Log {
  constructor(key, attempt) {
    this.path = `${stagePath(key)}/attempts/${attempt}/log`;
    this.text = h('pre', {class: 'text', tabindex: 0, role: 'log', 'aria-label': 'Log', 'aria-live': 'off'});
    this.box = h('input', {type: 'checkbox', checked: true, id: 'follow-log'});
    this.note = h('span', {class: 'faint'});
    const switches = h('div', {class: 'pager'}, h('label', {for: 'follow-log'
                       }, this.box, ' follow'), this.note);
    this.element = h('div', {}, switches, this.text);
    this.end = 0;
  }

  leave() {
    clearTimeout(this.timer);
    this.left = true;
  }

  async start() {
    await this.read('?tail=500');
    this.next();
  }

  next() {
    if (this.left || this.ended) return;
    this.timer = setTimeout(async () => {
      try {
        if (this.box.checked) await this.read(`?offset=${this.end}&limit=262144`);
      } catch {
        // offline: the next one may do
      }
      this.next();
    }, 1500);
  }

  async read(query) {
    const response = await request(this.path + query);
    const text = await response.text();
    const start = Number(response.headers.get('Filo-Log-Offset'));
    if (start < this.end) {  // its middle was taken out at the attempt's end
      this.end = 0;
      this.text.textContent = '';
      return this.read('?tail=500');
    }
    const total = Number(response.headers.get('Filo-Log-Bytes'));
    const length = Number(response.headers.get('Content-Length') || new Blob([text]).size);
    this.end = start + length;
    this.ended = response.headers.get('Filo-Ended') === 'true' && this.end >= total;
    this.append(text);
    this.box.parentElement.hidden = this.ended;
    const state = this.ended ? 'ended' : 'still being written';
    this.note.textContent = `${state}, ${bytesText(total)}${total === 0 ? ' (nothing in it)' : ''}`;
  }

  append(text) {
    this.text.append(text);
    const lines = this.text.textContent.split('\n');
    if (lines.length > MOST_LINES) this.text.textContent = lines.slice(-LINES_KEPT).join('\n');
    if (this.box.checked && text) this.text.scrollTop = this.text.scrollHeight;
  }
}
