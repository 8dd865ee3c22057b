'use strict';

// Swagger UI for this server's own document: without the bar that asks for another one.

window.onload = () => {
  const paths = {
    closed:
      'M15.8 8H14V5.6C14 2.703 12.665 1 10 1 7.334 1 6 2.703 6 5.6V8H4c-.553 0-1 .646-1 1.199V17c0 .549.428 1.139.951 1.307l1.197.387C5.672 18.861 6.55 19 7.1 19h5.8c.549 0 1.428-.139 1.951-.307l1.196-.387c.524-.167.953-.757.953-1.306V9.199C17 8.646 16.352 8 15.8 8zM12 8H8V5.199C8 3.754 8.797 3 10 3c1.203 0 2 .754 2 2.199V8z',
    open:
      'M15.8 8H14V5.6C14 2.703 12.665 1 10 1 7.334 1 6 2.703 6 5.6V6h2v-.801C8 3.754 8.797 3 10 3c1.203 0 2 .754 2 2.199V8H4c-.553 0-1 .646-1 1.199V17c0 .549.428 1.139.951 1.307l1.197.387C5.672 18.861 6.55 19 7.1 19h5.8c.549 0 1.428-.139 1.951-.307l1.196-.387c.524-.167.953-.757.953-1.306V9.199C17 8.646 16.352 8 15.8 8z',
  };

  /** A padlock is closed where a key is needed, and open once it was entered. Swagger UI has it the other way round. */
  const padlocks = ({ React }) => {
    const element = React.createElement;
    const icon = (name) => () =>
      element('svg', { className: name, width: 20, height: 20, viewBox: '0 0 20 20', 'aria-hidden': true }, element('path', { d: paths[name] }));
    const [closed, open] = [icon('closed'), icon('open')];
    const press = (onClick) => (event) => {
      event.stopPropagation();
      onClick?.();
    };
    const label = (isAuthorized) => (isAuthorized ? 'The key for this route was entered' : 'This route needs a key');
    return {
      components: {
        LockAuthIcon: open,
        UnlockAuthIcon: closed,
        authorizeOperationBtn: ({ isAuthorized, onClick }) =>
          element('button', { className: 'authorization__btn', 'aria-label': label(isAuthorized), title: label(isAuthorized), onClick: press(onClick) }, element(isAuthorized ? open : closed)),
      },
    };
  };

  window.ui = SwaggerUIBundle({
    dom_id: '#swagger-ui',
    // Relative, so that it works below a proxy's path, too.
    url: '../api-json',
    deepLinking: true,
    presets: [SwaggerUIBundle.presets.apis],
    plugins: [padlocks],
    layout: 'BaseLayout',
  });
};
