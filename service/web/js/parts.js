// The parts of a page that look after themselves (curves, log, heat maps): made once, left together.

import {h} from './dom.js';

export class Parts {
  constructor() {
    this.parts = new Map();
  }

  has(name) {
    return this.parts.has(name);
  }

  // In place of what `holder` showed; a part of the same name before it is left.
  async put(name, holder, title, part) {
    if (this.has(name)) this.parts.get(name).leave();
    this.parts.set(name, part);
    holder.replaceChildren(h('h2', {}, title), part.element);
    await part.start();
  }

  leave() {
    for (const part of this.parts.values()) part.leave();
  }
}
