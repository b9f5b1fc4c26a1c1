// Scrolling that stays at the end until the reader scrolls up.

const NEAR = 24; // pixels from the end that still count as the end

/**
 * Keeps `scroller`, which has one child, at its end. `stick()` is called after content was added; `button` shows while the
 * reader is elsewhere and leads back.
 */
export function follow(scroller, button) {
  let following = true;
  let before = 0;

  function stick() {
    if (!following) return;
    scroller.scrollTop = scroller.scrollHeight;
    before = scroller.scrollTop;
  }

  scroller.addEventListener('scroll', () => {
    const { scrollTop, scrollHeight, clientHeight } = scroller;
    // Only a movement upwards is a wish to stay: content that grows under us is not.
    if (scrollHeight - clientHeight - scrollTop <= NEAR) following = true;
    else if (scrollTop < before - 1) following = false;
    before = scrollTop;
    button.hidden = following;
  }, { passive: true });

  button.addEventListener('click', () => {
    following = true;
    button.hidden = true;
    stick();
    scroller.focus({ preventScroll: true });
  });

  // The content's height settles late: what comes into sight is laid out only then.
  const sizes = new ResizeObserver(stick);
  sizes.observe(scroller);
  sizes.observe(scroller.firstElementChild);
  return { stick };
}
