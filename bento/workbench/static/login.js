// The identity provider is asked again by loading the page: a script may not follow it to another site.
setTimeout(() => location.reload(), 3000);
