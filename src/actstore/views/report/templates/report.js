(function () {
  "use strict";
  // What a mark of a figure says, when it is pointed at: the smallest one that is there.
  var UNITS = 10000, REACH = 5;
  var tip = document.body.appendChild(document.createElement("div"));
  tip.className = "tip";
  tip.hidden = true;
  document.querySelectorAll("figure").forEach(function (figure) {
    var image = figure.querySelector("img"), holder = figure.querySelector("script"), spots = null;
    image.addEventListener("pointermove", function (event) {
      spots = spots || JSON.parse(holder.textContent);
      var box = image.getBoundingClientRect(), found = null, least = Infinity;
      var x = (event.clientX - box.left) / box.width * UNITS, y = (event.clientY - box.top) / box.height * UNITS;
      var across = REACH / box.width * UNITS, down = REACH / box.height * UNITS;
      spots.forEach(function (spot) {
        var size = (spot[2] - spot[0]) * (spot[3] - spot[1]);
        var near = size ? 0 : 1;
        if (x >= spot[0] - near * across && x <= spot[2] + near * across && y >= spot[1] - near * down && y <= spot[3] + near * down && size < least) {
          found = spot;
          least = size;
        }
      });
      tip.hidden = !found;
      if (!found) { return; }
      tip.textContent = found[4];
      tip.style.left = Math.max(8, Math.min(event.clientX + 12, window.innerWidth - tip.offsetWidth - 8)) + "px";
      tip.style.top = event.clientY + 16 + "px";
    });
    image.addEventListener("pointerleave", function () { tip.hidden = true; });
  });
  // On paper nothing is folded.
  var folded = [];
  window.addEventListener("beforeprint", function () {
    folded = Array.prototype.slice.call(document.querySelectorAll("details:not([open])"));
    folded.forEach(function (part) { part.open = true; });
  });
  window.addEventListener("afterprint", function () { folded.forEach(function (part) { part.open = false; }); });
  if (!("IntersectionObserver" in window)) { return; }
  var links = {};
  document.querySelectorAll("nav a").forEach(function (a) { links[a.hash.slice(1)] = a; });
  var watch = new IntersectionObserver(function (seen) {
    seen.forEach(function (entry) {
      if (!entry.isIntersecting) { return; }
      Object.keys(links).forEach(function (key) { links[key].classList.toggle("here", key === entry.target.id); });
    });
  }, { rootMargin: "-10% 0px -80% 0px" });
  document.querySelectorAll("main > section").forEach(function (section) { watch.observe(section); });
})();
