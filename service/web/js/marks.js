// The signs of states as strokes: legible down to 6 pixels.

// Lines through [x, y] of 0 to 1 within a cell.
const LINES = {
  failed: [[[0.28, 0.28], [0.72, 0.72]], [[0.72, 0.28], [0.28, 0.72]]],
  blocked: [[[0.72, 0.28], [0.28, 0.72]]],
  running: [[[0.28, 0.224], [0.72, 0.5], [0.28, 0.776]]],
  cancelled: [[[0.28, 0.5], [0.72, 0.5]]],
};

export function drawMark(context, state, x, y, edge, colour) {
  context.strokeStyle = context.fillStyle = colour;
  context.lineWidth = edge > 14 ? 2 : 1;
  const near = edge * 0.28;
  const far = edge * 0.72;
  const middle = edge / 2;
  context.beginPath();
  for (const [first, ...others] of LINES[state] || []) {
    context.moveTo(x + first[0] * edge, y + first[1] * edge);
    for (const point of others) context.lineTo(x + point[0] * edge, y + point[1] * edge);
  }
  if (state === 'running') {
    context.fill();
  } else if (state === 'done' && edge > 9) {
    context.moveTo(x + near, y + middle);
    context.lineTo(x + edge * 0.44, y + far);
    context.lineTo(x + far + 1, y + near);
  } else if (state === 'queued') {
    context.fillRect(x + middle - 1, y + middle - 1, 2, 2);
  } else if (state === 'stopped') {
    context.fillRect(x + near, y + near, far - near, far - near);
  }
  context.stroke();
  context.lineWidth = 1;
}
