"""``make rehearse``: the deploys of a SAM application, from the first to its end, without an account.

The real ``sam`` program deploys what ``sam build`` has made, to moto's server; the functions run from the zip files
that it uploads, in the kit's Lambda runtime, on an embedded PostgreSQL. ``command`` is what ``make rehearse`` calls: it
has the steps one after the other, ``checks`` says what each has to end in, ``releases`` makes the next versions of the
application, ``sam`` calls the program, and ``account`` puts together all that answers it. Before those steps, a
``journey`` leads from a ``clone`` to an application that answers, and back, by the verbs of ``make`` alone.

moto records what it is told; it does not deploy. What it lacks stands in a module each, with the reason in its
docstring:

- ``parameters``: a value that a template's declaration rules out is refused
- ``order``: what a resource mentions is there before it
- ``resources``: intrinsic functions over what exists, and a stand-in for a resource that moto does not know
- ``custom_resource``: a function is asked to create, update and delete, and its answer is obeyed
- ``functions``: a function runs, from the zip files of its own and of its layers
- ``network``: a subnet takes the routes that a template gives it
- ``database``: a cluster is a server, with a master, and secrets know where it is
- ``execution``: what fails is rolled back, and what is no longer named is removed
- ``backend``: change sets that compare what was meant, and a stack that cannot be deployed to says so

What goes wrong is an error of ``failure``, in CloudFormation's words. ``limits`` lists what none of it can see, which
the command prints as well.

It must not know a particular application, as ``app`` must not, nor ``fleet``. Where moto learns to do what a module
here does, the module goes.
"""
