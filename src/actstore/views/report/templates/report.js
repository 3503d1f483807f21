(function () {
  "use strict";
  // Draw one figure after the other, so that the page can be read meanwhile; until then its picture stands in.
  var items = Array.prototype.slice.call(document.querySelectorAll("script[data-figure]"));
  Bokeh.set_log_level("error");
  function next() {
    var holder = items.shift();
    if (!holder) { document.documentElement.dataset.figures = "painted"; return; }
    Bokeh.embed.embed_item(JSON.parse(holder.textContent)).then(function () {
      holder.closest("figure").classList.add("painted");
      setTimeout(next, 0);
    });
  }
  next();
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
