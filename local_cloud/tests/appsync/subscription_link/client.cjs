// Subscribes with the link of AWS for Apollo Client, and prints a line of JSON for each thing that happens.
// Its argument is JSON: url, region, auth, query, variables, and how many updates to wait for.
// The link is a CommonJS module here, because as an ES module it cannot sign.
const { ApolloLink } = require('@apollo/client');
const { createSubscriptionHandshakeLink } = require('aws-appsync-subscription-link');
const { parse } = require('graphql');

const { url, region, auth, query, variables, count } = JSON.parse(process.argv[2]);
const say = (event) => process.stdout.write(`${JSON.stringify(event)}\n`);
const link = ApolloLink.from([createSubscriptionHandshakeLink({ url, region, auth })]);
// Asks the link to tell when the subscription has started.
const context = { controlMessages: { '@@controlEvents': true } };
// What the link uses of Apollo Client.
const client = { defaultContext: {}, queryManager: {} };

let received = 0;
ApolloLink.execute(link, { query: parse(query), variables, context }, { client }).subscribe({
  next(result) {
    if (result.extensions?.controlMsgType) {
      say({ started: true });
      return;
    }
    say({ data: result.data });
    received += 1;
    if (received === count) {
      process.exit(0); // timers of the link would keep the process
    }
  },
  error(error) {
    say({ error: error.errors?.[0]?.message ?? error.message });
    process.exit(0);
  },
});
